"""The RPCs for the dead letters of a service, the same in every service with a job queue."""

from collections.abc import Callable
from typing import Any, Final, override

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from mesh.jobs.v1 import jobs_pb2 as pb
from mesh.jobs.v1 import jobs_pb2_grpc

from mesh_common.caller import require_subject
from mesh_common.cursor import decode_time_cursor, encode_time_cursor
from mesh_common.database.postgres import Database
from mesh_common.database.statements import AnyConnection
from mesh_common.errors import InvalidInput, NotFound, PermissionDenied
from mesh_common.ids import parse_id
from mesh_common.jobs.dead_letters import DeadLetter, DeadLetters, Selection
from mesh_common.subject import ADMIN

PROTO_SERVICE: Final = pb.DESCRIPTOR.services_by_name["DeadLetterService"].full_name
_MAX_PAGE: Final = 100
Context = grpc.aio.ServicerContext[Any, Any]


class DeadLetterServicer(jobs_pb2_grpc.DeadLetterServiceServicer):
    """Checks the scope although the gateway has done so. Withdrawn administrators keep it until their token expires."""

    def __init__(self, database: Database[Any], table: str) -> None:
        """`table` is the queue's table with its schema."""
        self._database: Database[AnyConnection] = database
        self._letters = DeadLetters(table)

    def beside(self, register: Callable[[grpc.aio.Server], Any]) -> Callable[[grpc.aio.Server], None]:
        """Registers this servicer and, with `register`, another one."""

        def both(server: grpc.aio.Server) -> None:
            register(server)
            jobs_pb2_grpc.add_DeadLetterServiceServicer_to_server(self, server)

        return both

    @override
    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: Context) -> pb.ListDeadLettersResponse:
        _require_admin()
        if not 1 <= request.limit <= _MAX_PAGE:
            raise InvalidInput.of_field("limit", f"must be 1 to {_MAX_PAGE}")
        after = decode_time_cursor(request.cursor) if request.HasField("cursor") else None
        selection = Selection(kind=request.kind if request.HasField("kind") else None)
        async with self._database.as_worker() as connection:
            found = await self._letters.page(connection, selection, limit=request.limit + 1, after=after)
        page = found[: request.limit]
        last = page[-1] if len(found) > len(page) else None
        return pb.ListDeadLettersResponse(
            dead_letters=map(_letter, page), next_cursor=encode_time_cursor(*last.place) if last else None
        )

    @override
    async def SendDeadLetterAgain(
        self, request: pb.SendDeadLetterAgainRequest, context: Context
    ) -> pb.SendDeadLetterAgainResponse:
        _require_admin()
        selection = Selection(id=parse_id(request.id, "id"))
        async with self._database.as_worker() as connection:
            if not await self._letters.send_again(connection, selection):
                raise NotFound("There is no such dead letter.")
        return pb.SendDeadLetterAgainResponse()


def _require_admin() -> None:
    if ADMIN not in require_subject().scopes:
        raise PermissionDenied("Only administrators may do this.", reason="ADMIN_REQUIRED")


def _letter(letter: DeadLetter) -> pb.DeadLetter:
    queued_at, failed_at = Timestamp(), Timestamp()
    queued_at.FromDatetime(letter.queued_at)
    failed_at.FromDatetime(letter.failed_at)
    return pb.DeadLetter(
        id=str(letter.id),
        kind=letter.kind,
        user_id=str(letter.user_id),
        reason=letter.reason,
        queued_at=queued_at,
        failed_at=failed_at,
    )
