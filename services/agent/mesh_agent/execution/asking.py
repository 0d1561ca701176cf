"""What a run asks when it ends interrupted."""

from collections.abc import Sequence
from datetime import timedelta

from mesh_common.clock import utc_now
from mesh_common.ids import new_id

from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.interrupts import Asked, Interrupt, Question


def as_interrupts(claim: Claim, questions: Sequence[Question], ttl_s: float) -> tuple[Asked, ...]:
    """The questions as they are stored and shown."""
    now = utc_now()
    expires_at = now + timedelta(seconds=ttl_s)
    return tuple(
        Asked(
            question,
            Interrupt(
                id=str(new_id()),
                run_id=str(claim.run_id),
                thread_id=str(claim.thread_id),
                kind=question.kind,
                call_id=question.call_id,
                tool=question.tool,
                arguments_json=question.arguments_json,
                question=question.question,
                answer_schema_json=question.answer_schema_json,
                allowed=question.allowed,
                created_at=now,
                expires_at=expires_at,
            ),
        )
        for question in questions
    )
