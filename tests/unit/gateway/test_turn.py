"""A turn without HTTP: started, followed and ended, with events in the encoding of any protocol."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from fakes.agent.loop_time import in_jumping_time
from fakes.gateway.turns import RUN, WHOLE, CountedLimits, LineEncoder, ListedAgent, a_record, numbered, turns_of
from mesh_common.errors import Conflict, NotFound, PreconditionFailed, RateLimited
from mesh_common.ids import RunId, new_id
from mesh_gateway.identity.access_tokens import Principal
from mesh_gateway.runs.order import RunOrder
from mesh_gateway.runs.position import EventPosition
from mesh_gateway.runs.pump import Pump
from mesh_gateway.runs.turn import Turn
from support.subjects import some_subject

CALLER = Principal(some_subject(), "session", datetime(2027, 1, 1, tzinfo=UTC))
ORDER = RunOrder(RUN, "Hi", {})


async def _stays() -> None:
    await asyncio.Event().wait()


async def _pumped(turn: Turn, *, until_left: Callable[[], object] = _stays) -> tuple[bool, list[bytes]]:
    """Whether the client is still connected at the end, and the bytes sent to it."""
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    async with turn.resources:
        is_there = await Pump(turn, LineEncoder(), send, ping_interval_s=15).run(until_left)  # type: ignore[arg-type]
    return is_there, sent


async def test_new_turn_is_charged_recorded_and_encoded_to_its_end() -> None:
    limits, record = CountedLimits(), a_record()

    turn = await turns_of(ListedAgent(), limits).start(record, CALLER, ORDER)
    is_there, sent = await _pumped(turn)

    assert limits.charged == [("chat", str(CALLER.user_id))]
    assert record.members == {"run_id": str(RUN), "thread_id": "thread"}
    assert (is_there, sent) == (True, [b"2 message_delta\n", b"3 run_finished\n", b"complete\n"])


async def test_refusal_of_the_agent_leaves_no_slot_behind() -> None:
    turns = turns_of(ListedAgent(refusal=NotFound("There is no such thread.")), max_per_user=1)

    for _ in range(2):
        with pytest.raises(NotFound):
            await turns.start(a_record(), CALLER, ORDER)


async def test_user_with_too_many_open_turns_is_refused_until_one_is_over() -> None:
    turns = turns_of(ListedAgent(), max_per_user=1)
    first = await turns.start(a_record(), CALLER, ORDER)

    with pytest.raises(RateLimited):
        await turns.follow(a_record(), CALLER, RUN, None)

    await _pumped(first)
    assert await turns.follow(a_record(), CALLER, RUN, None)


async def test_stream_of_a_replica_that_stops_says_so() -> None:
    turns = turns_of(ListedAgent(numbered(*WHOLE[:2])))
    turn = await turns.start(a_record(), CALLER, ORDER)
    asyncio.get_running_loop().call_later(0.01, turns.streams.close_all)

    assert await _pumped(turn) == (True, [b"2 message_delta\n", b"replica_stops\n"])


async def test_stream_of_a_run_that_can_be_followed_no_longer_says_so() -> None:
    turn = await turns_of(ListedAgent(numbered(*WHOLE[:2]), is_cut=True)).start(a_record(), CALLER, ORDER)

    assert await _pumped(turn) == (True, [b"2 message_delta\n", b"cut\n"])


@pytest.mark.parametrize("cancels", [True, False])
async def test_client_that_leaves_ends_the_turn_and_the_run_if_it_said_so(*, cancels: bool) -> None:
    agent = ListedAgent(numbered(*WHOLE[:2]))
    order = RunOrder(RUN, "Hi", {}, cancels_on_disconnect=cancels)
    turn = await turns_of(agent).start(a_record(), CALLER, order)

    async def leaves() -> None:
        await asyncio.sleep(0)

    is_there, sent = await _pumped(turn, until_left=leaves)

    assert not is_there
    assert not any(line.startswith((b"complete", b"cut", b"replica")) for line in sent)
    assert agent.cancelled == [RUN] * cancels


@in_jumping_time
async def test_silent_run_is_pinged() -> None:
    turns = turns_of(ListedAgent(numbered(*WHOLE[:2])))
    turn = await turns.start(a_record(), CALLER, ORDER)
    asyncio.get_running_loop().call_later(100, turns.streams.close_all)

    _, sent = await _pumped(turn)

    assert sent[1:-1]
    assert set(sent[1:-1]) == {b"ping\n"}


async def test_turn_is_followed_from_a_position() -> None:
    turn = await turns_of(ListedAgent()).follow(a_record(), CALLER, RUN, EventPosition(RUN, 1, 2))

    assert turn
    assert await _pumped(turn) == (True, [b"3 run_finished\n", b"complete\n"])


async def test_run_whose_end_was_seen_is_not_followed() -> None:
    turns = turns_of(ListedAgent(), max_per_user=1)

    for _ in range(2):
        assert await turns.follow(a_record(), CALLER, RUN, EventPosition(RUN, 1, 3)) is None


async def test_run_whose_events_are_deleted_is_not_followed() -> None:
    agent = ListedAgent(refusal=PreconditionFailed("Gone.", reason="EVENTS_EXPIRED"))

    assert await turns_of(agent).follow(a_record(), CALLER, RUN, None) is None


async def test_position_in_another_run_is_refused() -> None:
    with pytest.raises(Conflict):
        await turns_of(ListedAgent()).follow(a_record(), CALLER, RUN, EventPosition(RunId(new_id()), 1, 1))


async def test_answer_is_none_for_a_client_that_left() -> None:
    turns = turns_of(ListedAgent(numbered(*WHOLE[:2])))

    async def leaves() -> None:
        await asyncio.sleep(0)

    assert await turns.answer(a_record(), CALLER, ORDER, leaves) is None
