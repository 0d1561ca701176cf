"""Which failures a followed run survives, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from mesh_common.errors import Internal, MeshError, NotFound, Unavailable
from mesh_common.ids import RunId, UserId, new_id
from mesh_gateway import follow
from mesh_gateway.clients.agent import OpenedRun
from mesh_gateway.events import EventPosition, EventSource, StreamEvent
from mesh_gateway.follow import follow_to_end

RUN = RunId(new_id())
USER = UserId(new_id())


def _event(seq: int, *, is_terminal: bool = False) -> StreamEvent:
    return StreamEvent(EventPosition(RUN, 1, seq), "message_delta", {}, is_terminal)


class FakeFollower:
    """Each element of `streams` is one stream: events, then an error or the end."""

    def __init__(self, *streams: tuple[list[StreamEvent], MeshError | None]) -> None:
        self._streams = list(streams)
        self.asked: list[EventPosition | None] = []

    def opened(self) -> OpenedRun:
        return OpenedRun(RUN, "thread", EventSource(self._next()))

    @asynccontextmanager
    async def follow_run(self, user_id: UserId, run_id: RunId, after: EventPosition | None) -> AsyncIterator[OpenedRun]:
        assert (user_id, run_id) == (USER, RUN)
        self.asked.append(after)
        yield self.opened()

    async def _next(self) -> AsyncIterator[StreamEvent]:
        events, error = self._streams.pop(0) if self._streams else ([], Unavailable("away"))
        for event in events:
            yield event
        if error:
            raise error


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_FIRST_PAUSE_S", 0.0)


async def _seqs(follower: FakeFollower) -> list[int]:
    async with asyncio.timeout(5):
        return [event.position.seq async for event in follow_to_end(follower, USER, follower.opened(), None)]


async def test_cut_streams_are_joined_at_the_last_event() -> None:
    follower = FakeFollower(
        ([_event(1), _event(2)], Unavailable("cut")),
        ([], Internal("reset")),
        ([_event(3)], Unavailable("cut")),
        ([_event(4, is_terminal=True)], None),
    )

    seqs = await _seqs(follower)

    assert seqs == [1, 2, 3, 4]
    assert [position.seq if position else None for position in follower.asked] == [2, 2, 3]


async def test_nothing_is_read_after_the_terminal_event() -> None:
    follower = FakeFollower(([_event(1, is_terminal=True)], Unavailable("late")))

    assert await _seqs(follower) == [1]
    assert follower.asked == []


async def test_stream_that_ends_before_the_run_is_followed_again() -> None:
    follower = FakeFollower(([_event(1)], None), ([], None), ([_event(2, is_terminal=True)], None))

    assert await _seqs(follower) == [1, 2]
    assert len(follower.asked) == 2


async def test_owner_that_goes_before_its_next_event_is_no_end_for_who_came_back() -> None:
    follower = FakeFollower(([], None), ([_event(10, is_terminal=True)], None))

    seqs = [event.position.seq async for event in follow_to_end(follower, USER, follower.opened(), _event(9).position)]

    assert seqs == [10]


async def test_run_that_is_gone_is_not_followed_again() -> None:
    follower = FakeFollower(([_event(1)], Unavailable("cut")), ([], NotFound("deleted")))

    assert await _seqs(follower) == [1]
    assert len(follower.asked) == 1


async def test_agent_that_stays_away_is_asked_a_bounded_number_of_times() -> None:
    follower = FakeFollower(([_event(1)], Unavailable("cut")))

    assert await _seqs(follower) == [1]
    assert len(follower.asked) == 8
