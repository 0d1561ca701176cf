"""What a run asks people, as a whole."""

from collections.abc import Sequence
from dataclasses import replace

from mesh_agent.domain.interrupts import Question


def with_unique_ids(asked: Sequence[Question]) -> tuple[Question, ...]:
    """People decide by the id of a call. Models, and the agents of a team, may give several calls the same one."""
    ids = [question.call_id for question in asked]
    return tuple(
        replace(question, call_id=f"{question.call_id}#{question.call_key}")
        if question.call_id in ids[:index]
        else question
        for index, question in enumerate(asked)
    )
