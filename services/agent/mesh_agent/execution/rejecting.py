"""What happens to an execution whose interrupts nobody will decide any more: a note, and no checkpoints."""

from collections.abc import Sequence
from typing import Final

from mesh_common.ids import RunId

from mesh_agent.domain.interrupts import InterruptKind
from mesh_agent.store import Connection, checkpoints, messages
from mesh_agent.store.interrupts import Rejected

REPLACED: Final = "A new message came first."
EXPIRED: Final = "Nobody decided in time."


async def close_rejected(connection: Connection, rejected: Sequence[Rejected], reason: str) -> None:
    """Deletes the checkpoints, and says in the transcript of each run what was not done and why."""
    if not rejected:
        return
    await checkpoints.forget_executions(connection, [one.execution_id for one in rejected])
    by_run: dict[RunId, list[str]] = {}
    for one in rejected:
        by_run.setdefault(one.run_id, []).append(_note(one))
    await messages.insert_notes(connection, {run_id: " ".join([*notes, reason]) for run_id, notes in by_run.items()})


def _note(one: Rejected) -> str:
    if one.kind is InterruptKind.QUESTION:
        return "The question to the user was not answered."
    return f"The call of the tool {one.tool} was not approved and not made."
