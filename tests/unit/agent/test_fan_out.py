"""Shared streams: each run's events once and in order, at the reader's pace; which runs leave; when a stream ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.agent.runs import an_owned_log
from mesh_agent.domain.runs import Usage
from mesh_agent.events.fan_out import Delivery, SharedStream, SharedStreams
from mesh_agent.events.log import EventLog
from mesh_common.events.model import MessageDelta, RunEvent, RunFinished
from mesh_common.ids import RunId, new_id

FOLLOWER = new_id()
ADDRESS = "10.0.0.1:50051"
_MAX_EVENTS = 4
_LARGE = "large"


class FewEvents:
    """A message with capacity for four events. It accepts no event whose text marks it as large."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.left: list[RunId] = []

    def add(self, event: RunEvent) -> bool:
        if event.body == MessageDelta("m", _LARGE):
            raise ValueError(_LARGE)
        if len(self.events) == _MAX_EVENTS:
            return False
        self.events.append(event)
        return True

    def leave(self, run_id: RunId) -> None:
        self.left.append(run_id)

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.left


def _append(log: EventLog, *texts: str) -> None:
    for text in texts:
        log.append(MessageDelta("m", text))


def _end(log: EventLog) -> None:
    log.finish(RunEvent(log.claim.run_id, log.claim.attempt, len(log.events) + 1, RunFinished("stop", Usage())))


def _seqs(carried: FewEvents, log: EventLog) -> list[int]:
    return [event.seq for event in carried.events if event.run_id == log.claim.run_id]


@pytest.fixture
def streams() -> SharedStreams[FewEvents]:
    return SharedStreams(FewEvents, address=ADDRESS, takes_runs_for_s=60)


@pytest.fixture
async def stream(streams: SharedStreams[FewEvents]) -> AsyncIterator[SharedStream[FewEvents]]:
    with streams.open(FOLLOWER, new_id()) as stream:
        yield stream


async def _carried(group: asyncio.TaskGroup, stream: SharedStream[FewEvents], log: EventLog) -> "asyncio.Task[None]":
    task = group.create_task(_carry(stream, log))
    await asyncio.sleep(0)
    return task


async def _carry(stream: SharedStream[FewEvents], log: EventLog) -> None:
    with stream.carrying(log) as is_over:
        await is_over.wait()


async def test_what_several_runs_told_meanwhile_comes_in_one_message(stream: SharedStream[FewEvents]) -> None:
    first, second = an_owned_log(), an_owned_log()
    messages = stream.messages()
    async with asyncio.TaskGroup() as group:
        for log in (first, second):
            await _carried(group, stream, log)
            _append(log, "a", "b")

        carried = await anext(messages)

        for log in (first, second):
            _end(log)
        rest = await anext(messages)
    assert (_seqs(carried, first), _seqs(carried, second)) == ([1, 2], [1, 2])
    assert (_seqs(rest, first), _seqs(rest, second)) == ([3], [3])


async def test_what_was_told_before_the_run_came_is_carried_too(stream: SharedStream[FewEvents]) -> None:
    log = an_owned_log()
    _append(log, "a")
    _end(log)

    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)
        carried = await anext(stream.messages())

    assert (_seqs(carried, log), carried.left) == ([1, 2], [])


async def test_run_is_carried_until_its_end_was_read(stream: SharedStream[FewEvents]) -> None:
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        task = await _carried(group, stream, log)
        _end(log)
        await asyncio.sleep(0)
        assert not task.done()

        await anext(stream.messages())


async def test_nothing_is_told_once_the_lease_is_lost(stream: SharedStream[FewEvents]) -> None:
    """As for an owner that was paused between event and sending: another attempt may be running."""
    log = an_owned_log()
    messages = stream.messages()
    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)
        _append(log, "a")
        log.holds_lease = lambda: False

        carried = await anext(messages)

    assert (carried.events, carried.left) == ([], [log.claim.run_id])


async def test_run_that_is_closed_without_an_end_leaves_after_its_last_event(stream: SharedStream[FewEvents]) -> None:
    log = an_owned_log()
    messages = stream.messages()
    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)
        _append(log, "a")
        log.close()

        message = await anext(messages)
        left = await anext(messages)

    assert (_seqs(message, log), message.left, left.left) == ([1], [], [log.claim.run_id])


async def test_run_whose_start_was_cut_leaves(stream: SharedStream[FewEvents]) -> None:
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        task = await _carried(group, stream, log)

        task.cancel()
        carried = await anext(stream.messages())
        _append(log, "a")

    assert (carried.events, carried.left) == ([], [log.claim.run_id])


async def test_older_stream_of_a_follower_carries_what_it_has_and_ends(
    streams: SharedStreams[FewEvents], stream: SharedStream[FewEvents]
) -> None:
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)
        with streams.open(FOLLOWER, new_id()) as newer:
            assert streams.of(FOLLOWER) is newer
            _end(log)

            carried = [message async for message in stream.messages()]

    assert [_seqs(message, log) for message in carried] == [[1]]


async def test_stream_takes_no_runs_when_it_is_old() -> None:
    streams = SharedStreams(FewEvents, address=ADDRESS, takes_runs_for_s=0)
    with streams.open(FOLLOWER, new_id()) as stream:
        assert [message async for message in stream.messages()] == []

        assert streams.delivery(FOLLOWER, an_owned_log()) == Delivery(None, ADDRESS)


def test_new_run_is_carried_on_the_stream_and_a_repeated_request_is_not(
    streams: SharedStreams[FewEvents], stream: SharedStream[FewEvents]
) -> None:
    assert streams.delivery(FOLLOWER, an_owned_log()) == Delivery(stream, ADDRESS)
    assert streams.delivery(FOLLOWER, None) == Delivery(None, None)


def test_caller_that_follows_no_stream_gets_the_events_on_its_call(streams: SharedStreams[FewEvents]) -> None:
    assert streams.delivery(None, an_owned_log()) == Delivery(None, None)


async def test_replica_that_stops_takes_no_runs_and_invites_nobody(
    streams: SharedStreams[FewEvents], stream: SharedStream[FewEvents]
) -> None:
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)

        streams.stop()
        _end(log)
        carried = [message async for message in stream.messages()]

    assert [_seqs(message, log) for message in carried] == [[1]]
    assert streams.delivery(FOLLOWER, log) == Delivery(None, None)
    with streams.open(new_id(), new_id()) as late:
        assert not late.takes_runs


async def test_nobody_waits_for_a_stream_whose_follower_is_gone(streams: SharedStreams[FewEvents]) -> None:
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        with streams.open(FOLLOWER, new_id()) as stream:
            task = await _carried(group, stream, log)
        await task
        await _carry(stream, log)

    assert streams.of(FOLLOWER) is None


async def test_another_follower_has_no_part_in_it(
    streams: SharedStreams[FewEvents], stream: SharedStream[FewEvents]
) -> None:
    assert streams.of(FOLLOWER) is stream
    assert streams.of(new_id()) is None


async def test_stream_that_is_retired_ends_when_its_last_run_left(stream: SharedStream[FewEvents]) -> None:
    """Otherwise a stopping replica would wait for it until its timeout."""
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        task = await _carried(group, stream, log)
        stream.retire()
        task.cancel()

        async with asyncio.timeout(5):
            messages = [message async for message in stream.messages()]

    assert [message.left for message in messages] == [[log.claim.run_id]]


async def test_what_a_message_cannot_hold_comes_in_the_next(stream: SharedStream[FewEvents]) -> None:
    logs = [an_owned_log(), an_owned_log()]
    messages = stream.messages()
    async with asyncio.TaskGroup() as group:
        for log in logs:
            await _carried(group, stream, log)
            _append(log, "a", "b", "c")
            _end(log)

        carried = [await anext(messages) for _ in range(2)]

    assert [len(message.events) for message in carried] == [4, 4]
    for log in logs:
        assert [seq for message in carried for seq in _seqs(message, log)] == [1, 2, 3, 4]


async def test_lease_is_asked_for_again_before_what_a_message_could_not_hold(stream: SharedStream[FewEvents]) -> None:
    log = an_owned_log()
    messages = stream.messages()
    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)
        _append(log, *"abcdef")
        first = await anext(messages)
        log.holds_lease = lambda: False

        second = await anext(messages)

    assert (_seqs(first, log), second.events, second.left) == ([1, 2, 3, 4], [], [log.claim.run_id])


async def test_run_leaves_before_an_event_that_fits_into_no_message_and_the_others_stay(
    stream: SharedStream[FewEvents],
) -> None:
    large, small = an_owned_log(), an_owned_log()
    messages = stream.messages()
    async with asyncio.TaskGroup() as group:
        for log in (large, small):
            await _carried(group, stream, log)
        _append(large, "a", _LARGE, "b")
        _end(large)
        _append(small, "a")

        first = await anext(messages)
        await asyncio.sleep(0)
        _append(small, "b")
        second = await anext(messages)
        _end(small)
        third = await anext(messages)

    assert (_seqs(first, large), _seqs(first, small)) == ([1], [1])
    assert (second.left, _seqs(second, large), _seqs(third, large)) == ([large.claim.run_id], [], [])
    assert (_seqs(second, small), _seqs(third, small)) == ([2], [3])


def test_replica_whose_address_nobody_knows_invites_nobody() -> None:
    streams = SharedStreams(FewEvents, address=None, takes_runs_for_s=60)

    assert streams.delivery(FOLLOWER, an_owned_log()) == Delivery(None, None)
