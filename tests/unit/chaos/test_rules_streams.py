"""The rules about streams: histories that differ from a good one in one place."""

from dataclasses import replace

import pytest
from chaos.history import History
from support.histories import Spoil, attempt_of, good, rules_broken


def complete_with_another_text(history: History) -> None:
    for stream in history.streams[:2]:
        stream.events[5] = replace(stream.events[5], fields={"content": "Fine."})


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


def let_a_stranger_in(history: History) -> None:
    history.calls[3] = replace(history.calls[3], outcome="ok", status=200)


def tell_a_stranger_that_it_exists(history: History) -> None:
    history.calls[3] = replace(history.calls[3], status=403)


def let_a_stranger_follow(history: History) -> None:
    history.streams[0].user = "bob"


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("text", complete_with_another_text),
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
    ],
)
def test_a_spoilt_history_is_found_out(rule: str, spoil: Spoil) -> None:
    history = good()

    spoil(history)

    assert rule in rules_broken(history)
