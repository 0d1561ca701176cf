"""Each rule on a history made by hand: one that is good, and bad ones that differ from it in one place."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from chaos.checker import check
from chaos.history import Call, History, Mark, Order, Seen, StoredMessage, StoredRun, Stream

REPLY = "Fine, thanks."


def seen(run_id: str, attempt: int, *bodies: tuple[str, dict[str, Any]], first: int = 1) -> list[Seen]:
    return [
        Seen(run_id=run_id, attempt=attempt, seq=seq, type=kind, fields=fields)
        for seq, (kind, fields) in enumerate(bodies, first)
    ]


def attempt_of(run_id: str, attempt: int, token: str) -> list[Seen]:
    opening: tuple[str, dict[str, Any]] = ("run_started", {"thread_id": "t"})
    if attempt > 1:
        opening = ("run_restarted", {"thread_id": "t", "reused_tool_results": []})
    return seen(
        run_id,
        attempt,
        opening,
        ("tool_started", {"call_id": f"c-{token}", "tool": "mark_once", "arguments": {"token": token}}),
        ("tool_finished", {"call_id": f"c-{token}", "content": "done", "is_error": False, "is_unknown": False}),
        ("message_delta", {"text": "Fine, "}),
        ("message_delta", {"text": "thanks."}),
        ("message_completed", {"content": REPLY}),
        ("run_finished", {"finish_reason": "stop"}),
    )


def start(key: str, outcome: Any, run_id: str = "", *, at_s: float = 0.0, status: int = 200) -> Call:
    return Call(
        user="ann",
        kind="start",
        outcome=outcome,
        gateway="gateway-1",
        started_s=at_s,
        ended_s=at_s + 0.5,
        status=status,
        key=key,
        run_id=run_id,
    )


def stored(run_id: str, **changes: Any) -> StoredRun:
    fields: dict[str, Any] = {
        "user": "ann",
        "id": run_id,
        "thread_id": "t",
        "status": "succeeded",
        "attempt": 1,
        "started_at": "10:00:01",
        "ended_at": "10:00:02",
        "content": REPLY,
    }
    return StoredRun(**(fields | changes))


def message(run_id: str, role: str, content: str, **changes: Any) -> StoredMessage:
    fields: dict[str, Any] = {"user": "ann", "id": f"{run_id}-{role}", "thread_id": "t", "run_id": run_id}
    return StoredMessage(**(fields | {"role": role, "content": content} | changes))


def good() -> History:
    """Two runs on one thread, one after the other: a lost answer and a repetition; a takeover, followed and resumed."""
    return History(
        orders=[
            Order(user="ann", key="k1", message="q1", reply=REPLY, once_tokens=("o1",)),
            Order(user="ann", key="k2", message="q2", reply=REPLY, thread_id="t", idempotent_tokens=("i2",)),
        ],
        calls=[
            start("k1", "unknown", status=0),
            start("k1", "ok", "r1", at_s=1.0),
            start("k2", "ok", "r2", at_s=2.0),
            Call(user="bob", kind="stranger", outcome="fail", gateway="g", started_s=3, ended_s=3, status=404),
        ],
        streams=[
            Stream(user="ann", run_id="r1", gateway="g", events=attempt_of("r1", 1, "o1")),
            Stream(user="ann", run_id="r1", gateway="g", is_replay=True, events=attempt_of("r1", 1, "o1")),
            Stream(user="ann", run_id="r2", gateway="g", is_cut=True, events=attempt_of("r2", 1, "i2")[:4]),
            Stream(user="ann", run_id="r2", gateway="g", after=(1, 4), events=attempt_of("r2", 2, "i2")),
            Stream(user="ann", run_id="r2", gateway="g", is_replay=True, events=attempt_of("r2", 2, "i2")),
        ],
        runs=[stored("r1"), stored("r2", attempt=2, started_at="10:00:02", ended_at="10:00:09")],
        messages=[
            message("r1", "user", "q1"),
            message("r1", "assistant", REPLY),
            message("r2", "user", "q2"),
            message("r2", "assistant", REPLY),
        ],
        marks=[
            Mark(tool="mark_once", key="r1:1:0", token="o1"),
            Mark(tool="mark_idempotent", key="r2:1:0", token="i2"),
            Mark(tool="mark_idempotent", key="r2:1:0", token="i2"),
        ],
    )


def cancelled() -> History:
    """One run that was cancelled after half of its answer, and before that refused once."""
    events = seen("r1", 1, ("run_started", {}), ("message_delta", {"text": "Fine, "}), ("run_cancelled", {}))
    return History(
        orders=[Order(user="ann", key="k1", message="q1", reply=REPLY)],
        calls=[
            start("k1", "ok", "r1"),
            Call(user="ann", kind="cancel", outcome="ok", gateway="g", started_s=1, ended_s=1, status=200, run_id="r1"),
        ],
        streams=[Stream(user="ann", run_id="r1", gateway="g", is_replay=True, events=events)],
        runs=[stored("r1", status="cancelled", content="Fine, ")],
        messages=[message("r1", "user", "q1"), message("r1", "assistant", "Fine, ", is_partial=True)],
    )


def failed_without_text() -> History:
    history = cancelled()
    history.streams[0].events = seen("r1", 1, ("run_started", {}), ("run_failed", {"reason": "MODEL_UNAVAILABLE"}))
    history.runs = [stored("r1", status="failed", content=None)]
    history.messages = history.messages[:1]
    return history


def unknown_call() -> History:
    """A takeover found a call begun: it reports it, and the run succeeds."""
    history = good()
    for stream in history.streams[:2]:
        finished = stream.events[2]
        fields = {**finished.fields, "is_error": True, "is_unknown": True}
        stream.events[2] = replace(finished, fields=fields)
    return history


@pytest.mark.parametrize("history", [good(), cancelled(), failed_without_text(), unknown_call(), History()])
def test_good_histories_have_no_violations(history: History) -> None:
    assert check(history) == []


def test_unknown_call_may_have_left_no_mark() -> None:
    history = unknown_call()
    history.marks = history.marks[1:]

    assert check(history) == []


def test_cancelled_before_anyone_had_it_just_ends() -> None:
    history = cancelled()
    history.streams[0].events = seen("r1", 1, ("run_cancelled", {}))
    history.runs = [stored("r1", status="cancelled", attempt=0, started_at="", content=None)]
    history.messages = history.messages[:1]

    assert check(history) == []


type Spoil = Callable[[History], None]


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


def change_the_answer(history: History) -> None:
    history.messages[3] = replace(history.messages[3], content="Fine, thanksthanks.")
    history.runs[1] = replace(history.runs[1], content="Fine, thanksthanks.")


def call_a_whole_answer_partial(history: History) -> None:
    history.messages[3] = replace(history.messages[3], is_partial=True)


def tell_the_run_another_text(history: History) -> None:
    history.runs[1] = replace(history.runs[1], content="Well.")


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


def leave_out_an_event(history: History) -> None:
    del history.streams[0].events[3]


def send_an_event_twice(history: History) -> None:
    history.streams[0].events.insert(3, history.streams[0].events[3])


def begin_too_late(history: History) -> None:
    del history.streams[0].events[0]


def leave_a_gap_after_the_last_event_id(history: History) -> None:
    history.streams[3].events = attempt_of("r2", 1, "i2")[5:]
    history.runs[1] = replace(history.runs[1], attempt=1)


def go_back_to_an_old_attempt(history: History) -> None:
    history.streams[3].events += attempt_of("r2", 1, "i2")[:2]


def restart_without_saying_so(history: History) -> None:
    for stream in history.streams[3:]:
        stream.events[0] = replace(stream.events[0], type="run_started")


def end_twice(history: History) -> None:
    end = history.streams[0].events[-1]
    history.streams[0].events.append(replace(end, seq=end.seq + 1))


def go_on_after_the_end(history: History) -> None:
    end = history.streams[0].events[-1]
    history.streams[0].events.append(replace(end, seq=end.seq + 1, type="message_delta", fields={"text": "!"}))


def end_otherwise_for_another(history: History) -> None:
    history.streams[0].events[-1] = replace(history.streams[0].events[-1], type="run_failed")


def store_another_end(history: History) -> None:
    for stream in history.streams[:2]:
        stream.events[-1] = replace(stream.events[-1], type="run_failed")


def lose_the_events(history: History) -> None:
    del history.streams[1]


def tell_two_followers_two_things(history: History) -> None:
    history.streams[0].events[3] = replace(history.streams[0].events[3], fields={"text": "Oh, "})


def see_an_attempt_that_is_not_stored(history: History) -> None:
    history.runs[1] = replace(history.runs[1], attempt=1)


def complete_with_another_text(history: History) -> None:
    for stream in history.streams[:2]:
        stream.events[5] = replace(stream.events[5], fields={"content": "Fine."})


def keep_other_text_than_was_told(history: History) -> None:
    history.messages[1] = replace(history.messages[1], content="Fine")
    history.runs[0] = replace(history.runs[0], content="Fine")


def keep_text_the_model_never_said(history: History) -> None:
    history.messages[1] = replace(history.messages[1], content="Fine, Fine, ")
    history.runs[0] = replace(history.runs[0], content="Fine, Fine, ")


def call_a_cut_answer_whole(history: History) -> None:
    history.messages[1] = replace(history.messages[1], is_partial=False)


def let_a_stranger_in(history: History) -> None:
    history.calls[3] = replace(history.calls[3], outcome="ok", status=200)


def tell_a_stranger_that_it_exists(history: History) -> None:
    history.calls[3] = replace(history.calls[3], status=403)


def let_a_stranger_follow(history: History) -> None:
    history.streams[0].user = "bob"


def act_twice(history: History) -> None:
    history.marks.append(replace(history.marks[0]))


def act_twice_under_two_keys(history: History) -> None:
    history.marks[2] = replace(history.marks[2], key="r2:2:0")


def use_a_key_of_another_run(history: History) -> None:
    history.marks[0] = replace(history.marks[0], key="r2:1:0")


def say_done_without_a_mark(history: History) -> None:
    del history.marks[0]


def say_nothing_was_done(history: History) -> None:
    for stream in history.streams[:2]:
        fields = {**stream.events[2].fields, "is_error": True}
        stream.events[2] = replace(stream.events[2], fields=fields)


def never_call(history: History) -> None:
    history.orders[0] = replace(history.orders[0], once_tokens=("o1", "o9"))


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
        ("text", complete_with_another_text),
        ("order", answer_before_the_question),
        ("order", mix_two_runs),
        ("order", run_both_at_once),
        ("order", overtake),
        ("gap", leave_out_an_event),
        ("gap", send_an_event_twice),
        ("gap", begin_too_late),
        ("gap", leave_a_gap_after_the_last_event_id),
        ("gap", go_back_to_an_old_attempt),
        ("opening", restart_without_saying_so),
        ("terminal", end_twice),
        ("terminal", go_on_after_the_end),
        ("terminal", end_otherwise_for_another),
        ("terminal", store_another_end),
        ("terminal", lose_the_events),
        ("disagreement", tell_two_followers_two_things),
        ("disagreement", see_an_attempt_that_is_not_stored),
        ("private", let_a_stranger_in),
        ("private", tell_a_stranger_that_it_exists),
        ("private", let_a_stranger_follow),
        ("once", act_twice),
        ("idempotent", act_twice_under_two_keys),
        ("effect", use_a_key_of_another_run),
        ("effect", say_done_without_a_mark),
        ("effect", say_nothing_was_done),
        ("effect", never_call),
    ],
)
def test_a_spoilt_history_is_found_out(rule: str, spoil: Spoil) -> None:
    history = good()

    spoil(history)

    assert rule in {violation.rule for violation in check(history)}


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

    assert rule in {violation.rule for violation in check(history)}
