"""Work for a client that may leave."""

import asyncio

import pytest
from mesh_common.errors import NotFound, Unauthenticated, Unavailable
from mesh_gateway.limits.stream_slots import Closing, StreamSlot, while_connected


async def _stays() -> None:
    await asyncio.Event().wait()


async def _fails() -> None:
    raise NotFound("There is no such run.")


async def _leaves() -> None:
    """Returns at once, as for a client that has left."""


async def _never_ends() -> str:
    await asyncio.Event().wait()
    return "an answer"


async def test_client_that_left_gets_nothing_and_ends_the_work() -> None:
    slot = StreamSlot()

    assert await while_connected(_leaves, slot, _never_ends()) is None
    assert slot.has_client_left


async def test_replica_that_stops_ends_the_work_and_says_so() -> None:
    slot = StreamSlot()
    asyncio.get_running_loop().call_soon(slot.close, Closing.REPLICA_STOPS)

    with pytest.raises(Unavailable) as raised:
        await while_connected(_stays, slot, _never_ends())

    assert raised.value.reason == "REPLICA_STOPS"


async def test_revocation_ends_the_work_and_asks_to_log_in() -> None:
    slot = StreamSlot()
    asyncio.get_running_loop().call_soon(slot.close, Closing.REVOKED)

    assert await while_connected(_stays, slot, _never_ends()) is None
    with pytest.raises(Unauthenticated):
        slot.require_session()


async def test_error_of_the_work_comes_out_as_it_is() -> None:
    with pytest.raises(NotFound):
        await while_connected(_stays, StreamSlot(), _fails())
