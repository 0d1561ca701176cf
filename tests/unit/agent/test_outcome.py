from typing import get_args

import pytest
from mesh_agent.domain.attempts import Outcome
from mesh_agent.domain.runs import RunError, RunStatus, Usage
from mesh_agent.execution.outcome import terminal_event
from mesh_common.events.model import RunCancelled, RunFailed, RunFinished, Terminal
from mesh_common.ids import new_id

USAGE = Usage(1, 2, 3)
ERROR = RunError("MODEL_TIMEOUT", "Try again.", is_retryable=True)


def _outcome(status: RunStatus, *, finish_reason: str | None = None, error: RunError | None = None) -> Outcome:
    return Outcome(status, "answer", new_id(), "large", {"large": USAGE}, finish_reason, error)


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (_outcome(RunStatus.SUCCEEDED, finish_reason="length"), RunFinished("length", USAGE)),
        (_outcome(RunStatus.SUCCEEDED), RunFinished("stop", USAGE)),
        (_outcome(RunStatus.FAILED, error=ERROR), RunFailed(ERROR, USAGE)),
        (_outcome(RunStatus.CANCELLED), RunCancelled(USAGE)),
    ],
)
def test_an_outcome_is_told_by_its_event(outcome: Outcome, event: Terminal) -> None:
    assert terminal_event(outcome) == event


def test_a_failure_without_words_says_nothing_of_its_cause() -> None:
    terminal = terminal_event(_outcome(RunStatus.FAILED))

    assert isinstance(terminal, RunFailed)
    assert terminal.error.reason == "INTERNAL"
    assert terminal.error.is_retryable


@pytest.mark.parametrize("status", [RunStatus.PENDING, RunStatus.RUNNING, RunStatus.UNKNOWN])
def test_what_has_not_ended_has_no_terminal_event(status: RunStatus) -> None:
    with pytest.raises(ValueError, match="not an end"):
        terminal_event(_outcome(status))


# Any other end belongs to a newer release; this release never stores it.
ENDS = {status for status in RunStatus if status.is_ended} - {RunStatus.UNKNOWN}


def test_every_end_has_a_terminal_event_of_its_own() -> None:
    terminal = [type(terminal_event(_outcome(status))) for status in ENDS]

    assert len(terminal) == len(set(terminal))
    assert set(terminal) == set(get_args(Terminal))
