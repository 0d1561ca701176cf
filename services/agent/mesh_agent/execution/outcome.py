"""The terminal event of an outcome."""

from typing import assert_never

from mesh_common.events.model import RunCancelled, RunFailed, RunFinished, RunInterrupted, Terminal

from mesh_agent.domain.attempts import Outcome
from mesh_agent.domain.runs import RunError, RunStatus

_UNKNOWN_ERROR = RunError("INTERNAL", "Something went wrong on our side.", is_retryable=True)


def terminal_event(outcome: Outcome) -> Terminal:
    match outcome.status:
        case RunStatus.SUCCEEDED:
            return RunFinished(outcome.finish_reason or "stop", outcome.usage)
        case RunStatus.FAILED:
            return RunFailed(outcome.error or _UNKNOWN_ERROR, outcome.usage)
        case RunStatus.CANCELLED:
            return RunCancelled(outcome.usage)
        case RunStatus.INTERRUPTED:
            return RunInterrupted(tuple(one.interrupt for one in outcome.asked), outcome.usage)
        case RunStatus.PENDING | RunStatus.RUNNING | RunStatus.UNKNOWN:
            raise ValueError("not an end")
        case _:
            assert_never(outcome.status)
