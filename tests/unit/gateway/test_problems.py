"""Every error of the mesh has its HTTP status and a stable format for clients."""

import orjson
import pytest
from mesh_common import errors
from mesh_common.errors import FieldFault, MeshError
from mesh_gateway.edge.errors import error_response
from mesh_gateway.protocols.native.problems import ProblemDialect
from mesh_gateway.request_record import RequestRecord

STATUS = {
    errors.InvalidInput: 422,
    errors.IdempotencyKeyReused: 422,
    errors.TooLarge: 413,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.Conflict: 409,
    errors.PreconditionFailed: 409,
    errors.RateLimited: 429,
    errors.QuotaExceeded: 429,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.Internal: 500,
}


def _classes(cls: type[MeshError] = MeshError) -> set[type[MeshError]]:
    return {found for child in cls.__subclasses__() for found in ({child} | _classes(child))}


def _record() -> RequestRecord:
    return RequestRecord(trace_id="ab" * 16, started_s=0.0, dialect=ProblemDialect())


def test_table_knows_every_error() -> None:
    ours = {cls for cls in _classes() if cls.__module__ == "mesh_common.errors"}

    assert ours == set(STATUS)


@pytest.mark.parametrize("cls", STATUS)
def test_error_has_its_status_and_shape(cls: type[MeshError]) -> None:
    response = error_response(cls("Something.", fields=(FieldFault("a", "b"),)), _record())

    problem = orjson.loads(response.body)
    assert response.status_code == problem["status"] == STATUS[cls]
    assert response.media_type == "application/problem+json"
    assert problem["reason"] == cls.default_reason
    assert problem["trace_id"] == "ab" * 16
    assert problem["errors"] == [{"field": "a", "message": "b"}]
    assert ("retry-after" in response.headers) == (STATUS[cls] in {429, 503})
    assert ("www-authenticate" in response.headers) == (STATUS[cls] == 401)


@pytest.mark.parametrize(("wait_s", "header"), [(None, "1"), (0.2, "1"), (2.1, "3")])
def test_wait_is_rounded_up_to_whole_seconds(wait_s: float | None, header: str) -> None:
    response = error_response(errors.Unavailable("Away.", retry_after_s=wait_s), _record())

    assert response.headers["retry-after"] == header
