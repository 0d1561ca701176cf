# ruff: noqa: N802, ARG002 - methods are named and shaped by the generated servicer
"""Dead letters as the gateway sees them: two of them in each service, until they are sent again."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from mesh_common.caller import require_subject
from mesh_common.errors import NotFound, PermissionDenied
from mesh_common.ids import new_id

_NOW = Timestamp(seconds=1_764_000_000)


class FakeDeadLetters(jobs_pb2_grpc.DeadLetterServiceServicer):
    def __init__(self) -> None:
        self.letters = [_letter("record_usage"), _letter("remember")]
        self.calls = 0
        self.refuses = False
        """As a service whose own check refuses the caller."""

    async def ListDeadLetters(self, request: jobs_pb2.ListDeadLettersRequest, context: Any) -> Any:
        self._note_call()
        kinds = {request.kind} if request.HasField("kind") else {letter.kind for letter in self.letters}
        found = [letter for letter in self.letters if letter.kind in kinds]
        start = int(request.cursor) if request.HasField("cursor") else 0
        end = start + request.limit
        return jobs_pb2.ListDeadLettersResponse(
            dead_letters=found[start:end], next_cursor=str(end) if len(found) > end else None
        )

    async def SendDeadLetterAgain(self, request: jobs_pb2.SendDeadLetterAgainRequest, context: Any) -> Any:
        self._note_call()
        kept = [letter for letter in self.letters if letter.id != request.id]
        if len(kept) == len(self.letters):
            raise NotFound("There is no such dead letter.")
        self.letters = kept
        return jobs_pb2.SendDeadLetterAgainResponse()

    def _note_call(self) -> None:
        self.calls += 1
        if self.refuses or "admin" not in require_subject().scopes:
            raise PermissionDenied("Only administrators may do this.", reason="ADMIN_REQUIRED")


def _letter(kind: str) -> jobs_pb2.DeadLetter:
    return jobs_pb2.DeadLetter(
        id=str(new_id()), kind=kind, user_id=str(new_id()), reason="UNAVAILABLE", queued_at=_NOW, failed_at=_NOW
    )
