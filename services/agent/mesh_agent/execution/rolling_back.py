"""What remains in a thread of a run that was rolled back: a note of the tools that it had called.

A rollback removes messages, but cannot undo what a tool has done. The model that answers next must know of it.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from mesh_common.events.model import RunEvent, RunRestarted, ToolFinished, ToolStarted
from mesh_common.ids import RunId, ThreadId

from mesh_agent.domain.attempts import Claim
from mesh_agent.events.storage import decode_frames
from mesh_agent.store import Connection, checkpoints, interrupts, messages, rollbacks

ROLLED_BACK: Final = "The message was rolled back."
_UNKNOWN: Final = "A message was rolled back while a tool may have been called; it may have taken effect."
# A run may call many tools, but has few.
_MAX_NAMES: Final = 20


async def roll_back_waiting(connection: Connection, thread_id: ThreadId) -> None:
    """Rejects what waits for a decision on the thread, and removes its executions. The thread's row is locked."""
    rejected = await interrupts.reject_waiting(connection, thread_id, message=ROLLED_BACK)
    executions = {one.execution_id for one in rejected}
    await checkpoints.forget_executions(connection, executions)
    await rollbacks.mark_executions(connection, thread_id, executions)
    await note_calls(connection, {one.run_id for one in rejected})


async def close_rolled_back(connection: Connection, claim: Claim) -> None:
    """For a run that was rolled back while it executed, in the transaction that ends it. What it asks is rejected."""
    await interrupts.reject_waiting(connection, claim.thread_id, message=ROLLED_BACK)
    # The events of this attempt do not show a call that a lost owner had begun.
    has_lost_calls = claim.attempt > 1 and await rollbacks.has_begun_calls(connection, claim.run_id)
    await note_calls(connection, [claim.run_id], further=_UNKNOWN if has_lost_calls else "")


async def note_calls(connection: Connection, run_ids: Iterable[RunId], *, further: str = "") -> None:
    """Adds a note to the thread for each of the ended runs whose execution has called tools, or if there is more to
    say about them."""
    notes: dict[RunId, str] = {}
    for run_id in run_ids:
        parts = await rollbacks.frames_of_execution(connection, run_id)
        called = dict.fromkeys(name for part, frames in parts for name in _called(decode_frames(part, frames)))
        sentences = [_note(list(called))] if called else []
        if sentences := [*sentences, *([further] if further else [])]:
            notes[run_id] = " ".join(sentences)
    if notes:
        await messages.insert_notes(connection, notes)


def _called(events: Iterable[RunEvent]) -> Iterator[str]:
    for event in events:
        match event.body:
            case ToolStarted(_, name):
                yield name
            case ToolFinished(result):
                yield result.tool
            case RunRestarted(_, results):
                yield from (result.tool for result in results)
            case _:
                pass


def _note(names: list[str]) -> str:
    more = " and others" if len(names) > _MAX_NAMES else ""
    return (
        f"A message was rolled back after tools were called: {', '.join(names[:_MAX_NAMES])}{more}. "
        "What they did was not undone."
    )
