"""The events of an attempt as its owner writes and its followers read them."""

import asyncio

import pytest
from mesh_agent.attempt_log import AttemptLog, LeaseLostError
from mesh_agent.domain import Claim, Usage
from mesh_agent.events import MessageDelta, RunCancelled, RunEvent
from mesh_common.ids import RunId, ThreadId, UserId, new_id


def open_log(*, holds_lease: bool = True) -> AttemptLog:
    claim = Claim(RunId(new_id()), ThreadId(new_id()), UserId(new_id()), 1, 2, 1, "Hello", None, {})
    log = AttemptLog(claim)
    log.holds_lease = lambda: holds_lease
    return log


async def seqs(log: AttemptLog, after: int) -> list[int]:
    return [event.seq async for event in log.follow(after)]


async def test_seq_has_no_gaps_and_names_the_attempt() -> None:
    log = open_log()

    events = [log.append(MessageDelta("m", str(number))) for number in range(3)]

    assert [(event.attempt, event.seq) for event in events] == [(2, 1), (2, 2), (2, 3)]


async def test_lost_lease_keeps_the_owner_from_speaking() -> None:
    log = open_log(holds_lease=False)

    with pytest.raises(LeaseLostError):
        log.append(MessageDelta("m", "late"))

    assert log.events == []


async def test_end_is_told_whatever_became_of_the_lease() -> None:
    log = open_log(holds_lease=False)
    follower = asyncio.ensure_future(seqs(log, 0))

    log.finish(RunEvent(log.claim.run_id, 2, 1, RunCancelled(Usage())))

    assert await follower == [1]


async def test_followers_read_from_where_they_are_and_miss_nothing() -> None:
    log = open_log()
    log.append(MessageDelta("m", "a"))
    followers = [asyncio.ensure_future(seqs(log, after)) for after in (0, 1, 2)]
    await asyncio.sleep(0)
    for text in "bcd":
        log.append(MessageDelta("m", text))
        await asyncio.sleep(0)

    log.close()

    assert await asyncio.gather(*followers) == [[1, 2, 3, 4], [2, 3, 4], [3, 4]]


async def test_slow_follower_does_not_hold_the_owner_up() -> None:
    log = open_log()
    stream = log.follow(0)
    log.append(MessageDelta("m", "a"))
    await anext(stream)

    for text in "bcd":
        log.append(MessageDelta("m", text))
    log.close()

    assert [event.seq async for event in stream] == [2, 3, 4]
