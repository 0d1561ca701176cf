"""The rule about owners that lost their lease: what they send late is found, what the network holds back is not."""

from dataclasses import replace

import pytest
from chaos.history import History, Trouble
from support.histories import rules_broken, taken_over


def late(by_s: float, *troubles: Trouble) -> History:
    """The last event of the first attempt comes that much later than the first of the second, which came at 6 s."""
    history = taken_over()
    events = history.streams[2].events
    events[-1] = replace(events[-1], at_s=6.0 + by_s)
    history.troubles = list(troubles)
    return history


def trouble(kind: str, target: str, begun_s: float = 2.0, ended_s: float = 7.0) -> Trouble:
    return Trouble(kind=kind, target=target, begun_s=begun_s, ended_s=ended_s)


@pytest.mark.parametrize(
    "history",
    [
        late(1.5),
        late(1.5, trouble("pause", "agent")),
        late(1.5, trouble("partition", "agent-2>postgres")),
        late(1.5, trouble("reset", "client>gateway")),
        late(1.5, trouble("delay", "client>gateway", 0.0, 3.0)),
        late(3.5, trouble("delay", "client>gateway")),
    ],
)
def test_a_stale_owner_that_speaks_is_found_out(history: History) -> None:
    assert rules_broken(history) == {"stale"}


@pytest.mark.parametrize(
    "history",
    [
        late(-1.0),
        late(0.9),
        late(2.5, trouble("partition", "gateway>agent")),
        late(2.5, trouble("throttle", "agent>agent-2")),
        late(2.5, trouble("pause", "gateway-2")),
    ],
)
def test_events_that_were_held_back_are_no_stale_owners(history: History) -> None:
    assert rules_broken(history) == set()


def test_a_replay_long_after_is_of_the_current_attempt() -> None:
    history = taken_over()
    history.streams[-1].events = [replace(event, at_s=60.0) for event in history.streams[-1].events]

    assert rules_broken(history) == set()
