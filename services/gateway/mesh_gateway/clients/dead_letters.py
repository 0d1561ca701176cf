"""Dead letters of one service's background jobs, for administrators. The service checks the caller again."""

from uuid import UUID

import grpc
from mesh.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from mesh_common.subject import Subject

from mesh_gateway import convert
from mesh_gateway.clients.backend import Backend
from mesh_gateway.domain import DeadLetter, Page


class DeadLettersClient:
    """`caller` is the administrator."""

    def __init__(self, backend: Backend, channel: grpc.aio.Channel) -> None:
        self._backend = backend
        self._stub = jobs_pb2_grpc.DeadLetterServiceStub(channel)

    async def list(self, caller: Subject, kind: str | None, limit: int, cursor: str | None) -> Page[DeadLetter]:
        request = jobs_pb2.ListDeadLettersRequest(limit=limit, cursor=cursor, kind=kind)
        page = await self._backend.unary(self._stub.ListDeadLetters, request, subject=caller)
        following = page.next_cursor if page.HasField("next_cursor") else None
        return Page([convert.dead_letter(one) for one in page.dead_letters], following)

    async def send_again(self, caller: Subject, letter_id: UUID) -> None:
        request = jobs_pb2.SendDeadLetterAgainRequest(id=str(letter_id))
        await self._backend.unary(self._stub.SendDeadLetterAgain, request, subject=caller)
