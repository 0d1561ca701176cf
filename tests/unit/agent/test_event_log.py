"""The events of an attempt. Its owner writes them; each follower gets each once, whenever it joins or leaves."""

import asyncio

import pytest
from fakes.agent.runs import a_claim, an_owned_log
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_agent.domain.attempts import LeaseLostError
from mesh_agent.domain.runs import Usage
from mesh_agent.events.log import EventLog
from mesh_agent.lease import HeldLease
from mesh_common.events.model import MessageDelta, RunEvent, RunFinished


def _delta(text: str) -> MessageDelta:
    return MessageDelta("m", text)


def _end(log: EventLog) -> RunEvent:
    return RunEvent(log.claim.run_id, log.claim.attempt, len(log.events) + 1, RunFinished("stop", Usage()))


async def _all(log: EventLog, after_seq: int = 0) -> list[int]:
    return [event.seq async for event in log.follow(after_seq)]


def test_seq_has_no_gaps_and_names_the_attempt() -> None:
    log = an_owned_log(attempt=2)

    events = [log.append(_delta(str(number))) for number in range(3)]

    assert [(event.attempt, event.seq) for event in events] == [(2, 1), (2, 2), (2, 3)]


def test_a_log_whose_lease_does_not_hold_takes_nothing() -> None:
    log = EventLog(a_claim(), HeldLease(0.0, 6.0))

    with pytest.raises(LeaseLostError):
        log.append(_delta("a"))

    assert log.events == []


def test_what_was_refused_for_a_lost_lease_leaves_no_gap() -> None:
    log = an_owned_log()
    log.append(_delta("a"))
    log.holds_lease = lambda: False

    with pytest.raises(LeaseLostError):
        log.append(_delta("b"))

    log.holds_lease = lambda: True
    assert log.append(_delta("c")).seq == 2


async def test_end_is_told_whatever_became_of_the_lease() -> None:
    log = EventLog(a_claim(), HeldLease(0.0, 6.0))
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(_all(log))
        await asyncio.sleep(0)

        log.finish(_end(log))

    assert follower.result() == [1]


async def test_a_closed_log_ends_its_followers_without_a_terminal_event() -> None:
    log = an_owned_log()
    log.append(_delta("a"))
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(_all(log))
        await asyncio.sleep(0)

        log.close()

    assert follower.result() == [1]


async def test_a_follower_who_comes_after_the_end_gets_the_whole() -> None:
    log = an_owned_log()
    log.append(_delta("a"))
    log.finish(_end(log))

    assert [event.is_terminal async for event in log.follow(0)] == [False, True]
    assert await _all(log, 2) == []


async def test_a_follower_who_left_disturbs_neither_writer_nor_others() -> None:
    log = an_owned_log()
    log.append(_delta("a"))
    leaving = log.follow(0)
    await anext(leaving)
    await leaving.aclose()

    async with asyncio.TaskGroup() as group:
        other = group.create_task(_all(log))
        log.append(_delta("b"))
        log.close()

    assert other.result() == [1, 2]


async def test_a_slow_follower_does_not_hold_the_owner_up() -> None:
    log = an_owned_log()
    stream = log.follow(0)
    log.append(_delta("a"))
    await anext(stream)

    for text in "bcd":
        log.append(_delta(text))
    log.close()

    assert [event.seq async for event in stream] == [2, 3, 4]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_follower_gets_each_event_after_its_position_once_and_in_order(data: st.DataObject) -> None:
    """Followers join at any time between bursts of any size, from any position, even a future one."""

    async def run() -> None:
        log = an_owned_log()
        positions: list[int] = []
        tasks: list[asyncio.Task[list[int]]] = []
        async with asyncio.TaskGroup() as group:
            for burst in data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=6)):
                for _ in range(burst):
                    log.append(_delta("x"))
                position = data.draw(st.integers(0, len(log.events) + 2))
                positions.append(position)
                tasks.append(group.create_task(_all(log, position)))
                for _ in range(data.draw(st.integers(0, 3))):
                    await asyncio.sleep(0)
            log.finish(_end(log))
            positions.append(0)
            tasks.append(group.create_task(_all(log)))

        whole = [event.seq for event in log.events]
        assert whole == list(range(1, len(whole) + 1))
        assert [task.result() for task in tasks] == [whole[position:] for position in positions]

    asyncio.run(run())


async def test_what_nobody_has_read_is_told_no_more_when_the_lease_is_lost() -> None:
    """As for an owner that was paused: another attempt may be running by now."""
    log = an_owned_log()
    log.append(_delta("a"))
    log.append(_delta("b"))
    events = log.follow(0)
    first = await anext(events)

    log.holds_lease = lambda: False

    assert first.seq == 1
    assert [event.seq async for event in events] == []


async def test_ended_log_is_told_to_its_end_whatever_became_of_the_lease() -> None:
    log = an_owned_log()
    log.append(_delta("a"))
    log.finish(_end(log))

    log.holds_lease = lambda: False

    assert await _all(log) == [1, 2]
