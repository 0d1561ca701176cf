"""The rules about ends: reasons of failures, and what cancel, interrupt and reject promise."""

from dataclasses import replace
from typing import Any

import pytest
from chaos.history import Call, History, StoredRun, Trouble
from support.histories import at, failed_without_text, rules_broken, stored, timed

AWAY = Trouble(kind="partition", target="agent-2>postgres", begun_s=1.0, ended_s=5.0)


@pytest.mark.parametrize("reason", ["INTERNAL", "TOO_MANY_ATTEMPTS", "RUN_TIMEOUT", "MODEL_REFUSED", ""])
def test_a_failure_that_is_ours_is_found_out(reason: str) -> None:
    history = failed_without_text()
    history.runs[0] = replace(history.runs[0], reason=reason)

    assert rules_broken(history) == {"failure"}


@pytest.mark.parametrize("reason", ["MODEL_UNAVAILABLE", "MODEL_TIMEOUT", "MODEL_CUT_OFF", "UNAVAILABLE"])
def test_a_model_or_a_database_may_be_away(reason: str) -> None:
    history = failed_without_text()
    history.runs[0] = replace(history.runs[0], reason=reason)

    assert rules_broken(history) == set()


def first(ended_s: float, **changes: Any) -> StoredRun:
    return stored("r1", created_at=at(0), started_at=at(0), ended_at=at(ended_s), **changes)


def second(created_s: float = 0.0, begun_s: float = 40.0) -> StoredRun:
    return stored("r2", attempt=2, created_at=at(created_s), started_at=at(begun_s), ended_at=at(50))


def cancel(told: str, run: StoredRun, *troubles: Trouble) -> History:
    """Answered at 1 s."""
    history = timed("enqueue", run, second())
    history.calls.append(
        Call(
            user="ann",
            kind="cancel",
            outcome="ok",
            gateway="g",
            started_s=0.9,
            ended_s=1.0,
            status=200,
            run_id="r1",
            run_status=told,
        )
    )
    history.troubles = list(troubles)
    return history


@pytest.mark.parametrize(
    "history",
    [
        cancel("cancelled", first(0.9)),
        cancel("succeeded", first(2.0)),
        cancel("running", first(7.5)),
        cancel("pending", first(7.5)),
        cancel("running", first(11.5), AWAY),
    ],
)
def test_a_cancel_that_did_not_do_is_found_out(history: History) -> None:
    assert rules_broken(history) == {"cancelled"}


@pytest.mark.parametrize(
    "history",
    [
        cancel("succeeded", first(0.9)),
        # Its end was being stored already, or its owner was out of reach.
        cancel("running", first(6.5)),
        cancel("running", first(10.5), AWAY),
    ],
)
def test_a_cancel_may_come_too_late(history: History) -> None:
    assert rules_broken(history) == set()


def interrupt(ended_s: float, *troubles: Trouble) -> History:
    history = timed("interrupt", first(ended_s), second())
    history.troubles = list(troubles)
    return history


@pytest.mark.parametrize("history", [interrupt(3.0), interrupt(10.5, AWAY)])
def test_an_interrupted_run_that_succeeds_is_found_out(history: History) -> None:
    assert rules_broken(history) == {"interrupt"}


@pytest.mark.parametrize("history", [interrupt(0.1), interrupt(2.0), interrupt(9.5, AWAY)])
def test_an_end_that_is_being_stored_is_not_interrupted(history: History) -> None:
    assert rules_broken(history) == set()


def test_a_run_behind_the_interrupting_one_may_succeed() -> None:
    history = timed("enqueue", first(1.0), second())
    history.orders[0] = replace(history.orders[0], multitask="interrupt")

    assert rules_broken(history) == set()


def reject(ended_s: float, *troubles: Trouble, acknowledged_s: float = 0.5) -> History:
    """Made at 0 s."""
    history = timed("reject", first(ended_s), second())
    history.calls[1] = replace(history.calls[1], ended_s=acknowledged_s)
    history.troubles = list(troubles)
    return history


@pytest.mark.parametrize(
    "history",
    [
        reject(1.2),
        reject(1.2, acknowledged_s=20.0),
        reject(6.5, AWAY, acknowledged_s=20.0),
        reject(5.5, AWAY),
    ],
)
def test_a_run_that_was_taken_on_a_busy_thread_is_found_out(history: History) -> None:
    assert rules_broken(history) == {"reject"}


@pytest.mark.parametrize("history", [reject(0.0), reject(0.4), reject(5.5, AWAY, acknowledged_s=20.0)])
def test_a_run_may_wait_for_its_threads_lock_while_the_last_one_ends(history: History) -> None:
    assert rules_broken(history) == set()


def test_a_thread_whose_run_never_ended_was_not_idle() -> None:
    history = timed("reject", replace(first(1.0), ended_at=""), second())

    assert "reject" in rules_broken(history)
