"""A campaign in which nothing happened has tried nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from chaos.campaign import Campaign
from chaos.facts import Violation
from chaos.history import History, Mark
from chaos.schedule import Result
from support.histories import stored

type Change = Callable[[History], None]


def schedule() -> History:
    """Eight succeeded runs of ten, one cancelled, one failed; one of them taken over, one mark."""
    runs = [stored("r0", attempt=2), *(stored(f"r{number}") for number in range(1, 8))]
    runs += [stored("r8", status="cancelled"), stored("r9", status="failed", reason="MODEL_TIMEOUT")]
    return History(runs=runs, marks=[Mark(tool="mark_once", key="k", token="o")])


def campaign(schedules: int, change: Change = lambda _: None, violations: tuple[Violation, ...] = ()) -> Campaign:
    made = Campaign(1)
    for seed in range(schedules):
        history = schedule()
        change(history)
        made.add(Result(seed, (), history, violations, 1.0))
    return made


def do_nothing(history: History) -> None:
    history.runs, history.marks = [], []


def run_too_little(history: History) -> None:
    del history.runs[1:4]


def fail_too_often(history: History) -> None:
    history.runs[:2] = [replace(run, status="failed", reason="UNAVAILABLE") for run in history.runs[:2]]


def take_nothing_over(history: History) -> None:
    history.runs = [replace(run, attempt=1) for run in history.runs]


def mark_idempotent_only(history: History) -> None:
    history.marks = [replace(mark, tool="mark_idempotent") for mark in history.marks]


def cancel_nothing(history: History) -> None:
    history.runs = [run for run in history.runs if run.status != "cancelled"]


def test_a_full_campaign_passes() -> None:
    full = campaign(10)

    assert full.has_passed
    assert full.verdict().endswith("PASSED")


@pytest.mark.parametrize(
    ("change", "floor"),
    [
        (do_nothing, "8 runs per schedule"),
        (run_too_little, "8 runs per schedule"),
        (fail_too_often, "80% succeeded or cancelled"),
        (take_nothing_over, "a takeover"),
        (mark_idempotent_only, "a mark of a `once` call"),
        (cancel_nothing, "a cancelled run"),
    ],
)
def test_a_campaign_that_tried_too_little_fails_and_says_what(change: Change, floor: str) -> None:
    poor = campaign(10, change)

    assert not poor.has_passed
    assert f"FAILED, not reached: {floor}" in poor.verdict()


def test_few_schedules_may_try_little() -> None:
    assert campaign(9, do_nothing).has_passed


def test_a_violation_fails_any_campaign() -> None:
    bad = campaign(1, violations=(Violation("lost", "r1", "gone"),))

    assert not bad.has_passed
    assert bad.verdict().endswith("FAILED, seeds [0]")
