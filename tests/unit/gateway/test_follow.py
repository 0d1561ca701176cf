"""Which failures the following of a run survives, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from itertools import pairwise

from fakes.agent.loop_time import in_jumping_time, loop_time_ms
from mesh_common.errors import Internal, MeshError, NotFound, Unavailable
from mesh_common.events.model import MessageDelta, RunCancelled, RunEvent, Usage
from mesh_common.ids import RunId, new_id
from mesh_common.subject import Subject
from mesh_gateway.runs.follow import follow_to_end
from mesh_gateway.runs.ports import EventSource, OpenedRun
from mesh_gateway.runs.position import EventPosition
from support.subjects import some_subject

RUN = RunId(new_id())
USER = some_subject()

type Stream = tuple[list[RunEvent], MeshError | None]


def _event(seq: int, *, is_terminal: bool = False) -> RunEvent:
    return RunEvent(RUN, 1, seq, RunCancelled(Usage()) if is_terminal else MessageDelta("m", "a"))


class FakeFollower:
    """Each element of `streams` is one stream: events, then an error or the end. Then the agent is unavailable."""

    def __init__(self, *streams: Stream, back_at_s: float = 0.0) -> None:
        """All streams but the first are available from `back_at_s` on."""
        self._streams = list(streams)
        self.back_at_s = back_at_s
        self.silence_s = 0.0
        """How long each stream is open before its first event, or before its end if it has none."""
        self.asked: list[EventPosition | None] = []
        self.asked_at_ms: list[int] = []

    def opened(self) -> OpenedRun:
        return OpenedRun(RUN, "thread", EventSource(self._next()))

    @asynccontextmanager
    async def follow_run(
        self, subject: Subject, run_id: RunId, after: EventPosition | None
    ) -> AsyncIterator[OpenedRun]:
        assert (subject, run_id) == (USER, RUN)
        self.asked.append(after)
        self.asked_at_ms.append(loop_time_ms())
        if not self._streams or loop_time_ms() < self.back_at_s * 1_000:
            raise Unavailable("away")
        yield self.opened()

    async def _next(self) -> AsyncIterator[RunEvent]:
        events, error = self._streams.pop(0)
        await asyncio.sleep(self.silence_s)
        for event in events:
            yield event
        if error:
            raise copy(error)


async def _seqs(follower: FakeFollower) -> list[int]:
    return [event.seq async for event in follow_to_end(follower, USER, follower.opened(), None)]


@in_jumping_time
async def test_a_stream_that_cannot_be_followed_again_ends_without_an_error() -> None:
    assert await _seqs(FakeFollower(([_event(1)], NotFound("gone")))) == [1]


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


@in_jumping_time
async def test_nothing_is_read_after_the_terminal_event() -> None:
    follower = FakeFollower(([_event(1, is_terminal=True)], Unavailable("late")))

    assert await _seqs(follower) == [1]
    assert follower.asked == []


@in_jumping_time
async def test_stream_that_ends_before_the_run_is_followed_again() -> None:
    follower = FakeFollower(([_event(1)], None), ([], None), ([_event(2, is_terminal=True)], None))

    assert await _seqs(follower) == [1, 2]
    assert len(follower.asked) == 2


@in_jumping_time
async def test_owner_that_goes_before_its_next_event_is_no_end_for_who_came_back() -> None:
    follower = FakeFollower(([], None), ([_event(10, is_terminal=True)], None))

    seqs = [event.seq async for event in follow_to_end(follower, USER, follower.opened(), EventPosition(RUN, 1, 9))]

    assert seqs == [10]


@in_jumping_time
async def test_deleted_run_is_not_followed_again() -> None:
    follower = FakeFollower(([_event(1)], Unavailable("cut")), ([], NotFound("deleted")))

    assert await _seqs(follower) == [1]
    assert len(follower.asked) == 1


@in_jumping_time
async def test_agent_that_stays_unavailable_is_retried_for_half_a_minute() -> None:
    follower = FakeFollower(([_event(1)], Unavailable("cut")))

    assert await _seqs(follower) == [1]
    assert 28_000 < follower.asked_at_ms[-1] < 32_000
    assert len(follower.asked) < 40


@in_jumping_time
async def test_pauses_are_short_at_first_and_never_long() -> None:
    follower = FakeFollower(([_event(1)], Unavailable("cut")))

    await _seqs(follower)

    assert follower.asked_at_ms[0] <= 200
    assert follower.asked_at_ms[2] <= 1_400
    assert max(after - before for before, after in pairwise(follower.asked_at_ms)) <= 2_000


@in_jumping_time
async def test_agent_that_takes_longer_than_a_takeover_is_waited_for() -> None:
    follower = FakeFollower(([_event(1)], Unavailable("cut")), ([_event(2, is_terminal=True)], None), back_at_s=20.0)

    assert await _seqs(follower) == [1, 2]


@in_jumping_time
async def test_every_event_begins_a_new_half_minute() -> None:
    cuts = [([_event(seq)], Unavailable("cut")) for seq in range(1, 4)]
    follower = FakeFollower(*cuts, ([_event(4, is_terminal=True)], None))
    seqs = []

    async for event in follow_to_end(follower, USER, follower.opened(), None):
        seqs.append(event.seq)
        follower.back_at_s = asyncio.get_running_loop().time() + 20.0

    assert seqs == [1, 2, 3, 4]


@in_jumping_time
async def test_silence_of_a_run_that_is_followed_is_no_outage() -> None:
    nothing: Stream = ([], Unavailable("The connection is too old."))
    follower = FakeFollower(([_event(1)], None), nothing, nothing, nothing, ([_event(2, is_terminal=True)], None))
    follower.silence_s = 3_600.0

    assert await _seqs(follower) == [1, 2]


@in_jumping_time
async def test_streams_that_end_as_soon_as_they_are_opened_are_given_up_as_well() -> None:
    follower = FakeFollower(([_event(1)], None), *[([], None)] * 100)

    assert await _seqs(follower) == [1]
    assert 28_000 < follower.asked_at_ms[-1] < 32_000
