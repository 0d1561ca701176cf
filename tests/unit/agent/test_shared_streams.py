"""Shared streams: every run's events once and in order, at the pace of the reader; who leaves, and when it ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.agent.runs import an_owned_log
from mesh_agent.attempt_log import AttemptLog
from mesh_agent.domain import Usage
from mesh_agent.events import MessageDelta, RunEvent, RunFinished
from mesh_agent.shared_streams import Carried, SharedStream, SharedStreams
from mesh_common.ids import new_id

FOLLOWER = new_id()


def _tell(log: AttemptLog, *texts: str) -> None:
    for text in texts:
        log.append(MessageDelta("m", text))


def _end(log: AttemptLog) -> None:
    log.finish(RunEvent(log.claim.run_id, log.claim.attempt, len(log.events) + 1, RunFinished("stop", Usage())))


def _seqs(carried: Carried, log: AttemptLog) -> list[int]:
    return [event.seq for event in carried.events if event.run_id == log.claim.run_id]


@pytest.fixture
def streams() -> SharedStreams:
    return SharedStreams("10.0.0.1:50051", takes_runs_for_s=60)


@pytest.fixture
async def stream(streams: SharedStreams) -> AsyncIterator[SharedStream]:
    with streams.open(FOLLOWER, new_id()) as stream:
        yield stream


async def _carried(group: asyncio.TaskGroup, stream: SharedStream, log: AttemptLog) -> "asyncio.Task[None]":
    task = group.create_task(stream.carry(log))
    await asyncio.sleep(0)
    return task


async def test_what_several_runs_told_meanwhile_comes_in_one_message(stream: SharedStream) -> None:
    first, second = an_owned_log(), an_owned_log()
    messages = stream.messages()
    async with asyncio.TaskGroup() as group:
        for log in (first, second):
            await _carried(group, stream, log)
            _tell(log, "a", "b")

        carried = await anext(messages)

        for log in (first, second):
            _end(log)
        rest = await anext(messages)
    assert (_seqs(carried, first), _seqs(carried, second)) == ([1, 2], [1, 2])
    assert (_seqs(rest, first), _seqs(rest, second)) == ([3], [3])


async def test_what_was_told_before_the_run_came_is_carried_too(stream: SharedStream) -> None:
    log = an_owned_log()
    _tell(log, "a")
    _end(log)

    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)
        carried = await anext(stream.messages())

    assert (_seqs(carried, log), carried.left) == ([1, 2], [])


async def test_run_is_carried_until_its_end_was_read(stream: SharedStream) -> None:
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        task = await _carried(group, stream, log)
        _end(log)
        await asyncio.sleep(0)
        assert not task.done()

        await anext(stream.messages())


async def test_nothing_is_told_once_the_lease_is_lost(stream: SharedStream) -> None:
    """An owner that was paused between the event and its sending: another attempt may be under way."""
    log = an_owned_log()
    messages = stream.messages()
    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)
        _tell(log, "a")
        log.holds_lease = lambda: False

        carried = await anext(messages)

    assert (carried.events, carried.left) == ([], [log.claim.run_id])


async def test_run_that_is_closed_without_an_end_leaves_after_its_last_event(stream: SharedStream) -> None:
    log = an_owned_log()
    messages = stream.messages()
    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)
        _tell(log, "a")
        log.close()

        told = await anext(messages)
        left = await anext(messages)

    assert (_seqs(told, log), told.left, left.left) == ([1], [], [log.claim.run_id])


async def test_run_whose_start_was_cut_leaves(stream: SharedStream) -> None:
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        task = await _carried(group, stream, log)

        task.cancel()
        carried = await anext(stream.messages())
        _tell(log, "a")

    assert (carried.events, carried.left) == ([], [log.claim.run_id])


async def test_older_stream_of_a_follower_carries_what_it_has_and_ends(
    streams: SharedStreams, stream: SharedStream
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
    streams = SharedStreams("10.0.0.1:50051", takes_runs_for_s=0)
    with streams.open(FOLLOWER, new_id()) as stream:
        assert [message async for message in stream.messages()] == []

        assert streams.of(FOLLOWER) is None
        assert streams.invitation() == ("10.0.0.1:50051",)


async def test_replica_that_stops_takes_no_runs_and_invites_nobody(
    streams: SharedStreams, stream: SharedStream
) -> None:
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        await _carried(group, stream, log)

        streams.stop()
        _end(log)
        carried = [message async for message in stream.messages()]

    assert [_seqs(message, log) for message in carried] == [[1]]
    assert (streams.of(FOLLOWER), streams.invitation()) == (None, ())
    with streams.open(new_id(), new_id()) as late:
        assert not late.takes_runs


async def test_nobody_waits_for_a_stream_whose_follower_is_gone(streams: SharedStreams) -> None:
    log = an_owned_log()
    async with asyncio.TaskGroup() as group:
        with streams.open(FOLLOWER, new_id()) as stream:
            task = await _carried(group, stream, log)
        await task
        await stream.carry(log)

    assert streams.of(FOLLOWER) is None


async def test_another_follower_has_no_part_in_it(streams: SharedStreams, stream: SharedStream) -> None:
    assert streams.of(FOLLOWER) is stream
    assert streams.of(new_id()) is None
