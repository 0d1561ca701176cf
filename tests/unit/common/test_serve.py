"""The loop that every service runs on."""

import asyncio
import os
import socket
from pathlib import Path

from mesh_common.process.serve import run_process


async def _connection_cancelled_while_it_opens(ours: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    opening = loop.create_task(loop.create_connection(asyncio.Protocol, sock=ours))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()


def test_a_cancelled_connection_does_not_close_the_one_that_got_its_descriptor() -> None:
    """uvloop issues 645 and 738: responses were sent on other users' connections."""
    ours, theirs = socket.socketpair()
    number = ours.fileno()

    async def main() -> None:
        await _connection_cancelled_while_it_opens(ours)
        newcomer = os.open(os.devnull, os.O_RDONLY)
        assert newcomer == number
        ours.close()
        assert Path(f"/proc/self/fd/{newcomer}").exists()
        os.close(newcomer)

    with theirs:
        run_process(main())
