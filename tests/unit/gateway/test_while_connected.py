"""Work for a client that may leave."""

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from mesh_common.errors import NotFound
from mesh_gateway.streams import StreamSlot, while_connected
from support.cycles import cycles_left_by


async def _stays() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    return {}


async def _fails() -> None:
    raise NotFound("There is no such run.")


async def test_work_that_fails_leaves_no_cycle() -> None:
    async def wait() -> None:
        slot = StreamSlot()
        with suppress(NotFound):
            await while_connected(_stays, slot, _fails())

    assert not await cycles_left_by(wait)
