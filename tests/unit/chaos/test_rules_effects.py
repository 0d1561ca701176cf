"""The rules about effects: histories that differ from a good one in one place."""

from dataclasses import replace

import pytest
from chaos.history import History, Stream
from support.histories import Spoil, attempt_of, good, rules_broken, unknown_call


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


def never_reach_the_tool(history: History) -> None:
    say_nothing_was_done(history)
    del history.marks[0]


def not_know_what_the_first_attempt_did(history: History) -> None:
    for stream in history.streams[:2]:
        fields = {**stream.events[2].fields, "is_error": True, "is_unknown": True}
        stream.events[2] = replace(stream.events[2], fields=fields)


def not_know_what_was_taken_over(history: History) -> None:
    for stream in history.streams[3:]:
        finished = stream.events[2].fields
        stream.events[0] = replace(stream.events[0], fields={"reused_tool_results": [finished]})
        stream.events[2] = replace(stream.events[2], fields={**finished, "is_error": True, "is_unknown": True})


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("once", act_twice),
        ("idempotent", act_twice_under_two_keys),
        ("effect", use_a_key_of_another_run),
        ("effect", say_done_without_a_mark),
        ("effect", say_nothing_was_done),
        ("effect", never_call),
        ("effect", never_reach_the_tool),
        ("unknown", not_know_what_the_first_attempt_did),
        ("unknown", not_know_what_was_taken_over),
    ],
)
def test_a_spoilt_history_is_found_out(rule: str, spoil: Spoil) -> None:
    history = good()

    spoil(history)

    assert rule in rules_broken(history)


def test_a_taken_over_result_that_was_unknown_stays_so() -> None:
    history = unknown_call()
    for stream in history.streams[:2]:
        stream.events[0] = replace(stream.events[0], fields={"reused_tool_results": [stream.events[2].fields]})
        stream.events[1:3] = []
        stream.events = [replace(event, seq=seq) for seq, event in enumerate(stream.events, 1)]
    earlier = attempt_of("r1", 1, "o1")[:2]
    history.streams.insert(0, Stream(user="ann", run_id="r1", gateway="g", is_cut=True, events=earlier))

    assert rules_broken(history) == set()


def test_a_first_attempt_that_was_cancelled_may_not_know() -> None:
    history = good()
    not_know_what_the_first_attempt_did(history)
    history.runs[0] = replace(history.runs[0], status="cancelled")

    assert "unknown" not in rules_broken(history)
