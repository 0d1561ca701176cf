"""The rules about runs: histories that differ from a good one in one place."""

from dataclasses import replace

import pytest
from chaos.history import Call, History, Trouble
from support.histories import REPLY, Spoil, at, cancelled, good, message, rules_broken, start, stored, timed


def lose_the_run(history: History) -> None:
    history.runs.pop()
    history.messages = history.messages[:2]


def leave_it_running(history: History) -> None:
    history.runs[1] = replace(history.runs[1], status="running", content=REPLY)


def hide_it_from_its_owner(history: History) -> None:
    history.calls.append(
        Call(user="ann", kind="follow", outcome="fail", gateway="g", started_s=9, ended_s=9, status=404, run_id="r1")
    )


def name_two_runs(history: History) -> None:
    history.calls.append(start("k1", "ok", "r9", at_s=1.5))


def execute_twice(history: History) -> None:
    history.runs.insert(0, stored("r0", started_at="10:00:00", ended_at="10:00:01"))
    history.messages[:0] = [message("r0", "user", "q1"), message("r0", "assistant", REPLY)]


def execute_what_was_refused(history: History) -> None:
    history.calls = [start("k2", "fail", status=409) if call.key == "k2" else call for call in history.calls]


def run_what_nobody_ordered(history: History) -> None:
    history.orders.pop()


def put_it_into_anothers_thread(history: History) -> None:
    history.orders[1] = replace(history.orders[1], user="bob")


def answer_twice(history: History) -> None:
    history.messages.append(message("r2", "assistant", REPLY))


def ask_twice(history: History) -> None:
    history.messages.insert(2, message("r2", "user", "q2"))


def forget_the_answer(history: History) -> None:
    history.messages.pop()


def tell_the_run_another_text(history: History) -> None:
    history.runs[1] = replace(history.runs[1], content="Well.")


def change_the_answer(history: History) -> None:
    history.messages[3] = replace(history.messages[3], content="Fine, thanksthanks.")
    history.runs[1] = replace(history.runs[1], content="Fine, thanksthanks.")


def call_a_whole_answer_partial(history: History) -> None:
    history.messages[3] = replace(history.messages[3], is_partial=True)


def answer_before_the_question(history: History) -> None:
    history.messages[0:2] = reversed(history.messages[0:2])


def mix_two_runs(history: History) -> None:
    history.messages[1:3] = reversed(history.messages[1:3])


def run_both_at_once(history: History) -> None:
    history.runs[1] = replace(history.runs[1], started_at="10:00:01")


def overtake(history: History) -> None:
    """The second in the thread was acknowledged before the first was asked for."""
    history.calls[2] = replace(history.calls[2], started_s=-2.0, ended_s=-1.0)


def cancel_unasked(history: History) -> None:
    history.calls.pop()


def keep_other_text_than_was_told(history: History) -> None:
    history.messages[1] = replace(history.messages[1], content="Fine")
    history.runs[0] = replace(history.runs[0], content="Fine")


def keep_text_the_model_never_said(history: History) -> None:
    history.messages[1] = replace(history.messages[1], content="Fine, Fine, ")
    history.runs[0] = replace(history.runs[0], content="Fine, Fine, ")


def call_a_cut_answer_whole(history: History) -> None:
    history.messages[1] = replace(history.messages[1], is_partial=False)


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("lost", lose_the_run),
        ("lost", leave_it_running),
        ("lost", hide_it_from_its_owner),
        ("twice", name_two_runs),
        ("twice", execute_twice),
        ("twice", execute_what_was_refused),
        ("foreign", run_what_nobody_ordered),
        ("foreign", put_it_into_anothers_thread),
        ("messages", answer_twice),
        ("messages", ask_twice),
        ("messages", forget_the_answer),
        ("messages", tell_the_run_another_text),
        ("text", change_the_answer),
        ("text", call_a_whole_answer_partial),
        ("order", answer_before_the_question),
        ("order", mix_two_runs),
        ("order", run_both_at_once),
        ("order", overtake),
    ],
)
def test_a_spoilt_history_is_found_out(rule: str, spoil: Spoil) -> None:
    history = good()

    spoil(history)

    assert rule in rules_broken(history)


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("cancel", cancel_unasked),
        ("text", keep_other_text_than_was_told),
        ("text", keep_text_the_model_never_said),
        ("text", call_a_cut_answer_whole),
    ],
)
def test_a_spoilt_end_of_a_cut_run_is_found_out(rule: str, spoil: Spoil) -> None:
    history = cancelled()

    spoil(history)

    assert rule in rules_broken(history)


def sent_twice(*starts: Call, first_ended_s: float = 1.0, multitask: str = "reject") -> History:
    """The second run of a thread, stored at 5 s, and what the requests for it were answered."""
    first = stored("r1", created_at=at(0), started_at=at(0), ended_at=at(first_ended_s))
    second = stored("r2", attempt=2, created_at=at(5), started_at=at(20), ended_at=at(50))
    history = timed(multitask, first, second)
    history.calls[1:] = starts
    return history


def refused_at(at_s: float) -> Call:
    return start("k2", "fail", at_s=at_s, status=409)


def with_trouble(history: History, begun_s: float, ended_s: float) -> History:
    history.troubles = [Trouble(kind="delay", target="agent-1>postgres", begun_s=begun_s, ended_s=ended_s)]
    return history


TAKEN = start("k2", "ok", "r2", at_s=5.0)
UNHEARD = start("k2", "unknown", at_s=5.0, status=0)


@pytest.mark.parametrize(
    "history",
    [
        sent_twice(refused_at(5.0), TAKEN),
        sent_twice(UNHEARD, refused_at(8.0)),
        sent_twice(UNHEARD, refused_at(8.0), start("k2", "ok", "r2", at_s=9.0)),
        # Acknowledged before, whatever else was there.
        sent_twice(TAKEN, refused_at(5.6), first_ended_s=5.2),
        # Who does not reject is refused for no run's sake.
        sent_twice(refused_at(5.0), TAKEN, first_ended_s=10.0, multitask="enqueue"),
        with_trouble(sent_twice(refused_at(5.0), TAKEN), 2.5, 4.5),
    ],
)
def test_a_request_refused_whose_twin_made_the_run_is_found_out(history: History) -> None:
    assert rules_broken(history) == {"twice"}


@pytest.mark.parametrize(
    "history",
    [
        sent_twice(TAKEN, start("k2", "ok", "r2", at_s=5.0)),
        # Another run had the thread when it asked, and not when its twin did.
        sent_twice(refused_at(0.5), TAKEN),
        sent_twice(refused_at(0.5), UNHEARD),
        sent_twice(refused_at(5.0), TAKEN, first_ended_s=5.2),
        with_trouble(sent_twice(refused_at(5.0), TAKEN), 0.5, 4.5),
    ],
)
def test_a_request_may_be_refused_for_another_run_before_its_twin_is_taken(history: History) -> None:
    assert rules_broken(history) == set()


def taken_over_under(*kinds: str) -> History:
    history = good()
    history.runs[1] = replace(history.runs[1], attempt=2)
    history.troubles = [Trouble(kind=kind, target="t", begun_s=2.0, ended_s=3.0) for kind in kinds]
    return history


def test_a_takeover_by_overload_alone_is_found_out() -> None:
    assert "takeover" in rules_broken(taken_over_under("slow_database"))
    assert "takeover" in rules_broken(taken_over_under("odd_model", "slow_database"))
    assert "takeover" not in rules_broken(taken_over_under("slow_database", "kill"))
