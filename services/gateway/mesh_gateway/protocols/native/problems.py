"""RFC 9457 problem documents: the error format of the native API."""

from http import HTTPStatus
from typing import Any, Final

import orjson

from mesh_gateway.request_record import Refusal, RequestRecord

MEDIA_TYPE: Final = "application/problem+json"


class ProblemDialect:
    media_type = MEDIA_TYPE

    def render(self, refusal: Refusal, record: RequestRecord) -> tuple[int, bytes]:
        document: dict[str, Any] = {
            "type": problem_type(refusal.reason),
            "title": HTTPStatus(refusal.status).phrase,
            "status": int(refusal.status),
            "detail": refusal.detail,
            "reason": refusal.reason,
            "trace_id": record.trace_id,
            **record.members,
        }
        if refusal.fields:
            document["errors"] = [{"field": fault.field, "message": fault.message} for fault in refusal.fields]
        return refusal.status, orjson.dumps(document)


def problem_type(reason: str) -> str:
    return f"urn:mesh:problem:{reason.lower().replace('_', '-')}"
