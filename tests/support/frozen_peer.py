"""A service of the mesh in a separate process, so that a test can freeze it: `python -m support.frozen_peer`.

It serves agent (FollowRun: one event, then silence) and eval (ListScores), with the options of every server.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh_admin.secrets import SecretSet, from_json, to_json

from support.grpc_echo import open_echo


@dataclass(frozen=True)
class FrozenPeer:
    port: int
    pid: int

    def freeze(self) -> None:
        """Its connections stay open, but nothing arrives on them."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@asynccontextmanager
async def open_peer(secrets: SecretSet, folder: Path, service: str = "agent") -> AsyncIterator[FrozenPeer]:
    """A serving peer. Its process ends with the block, frozen or not."""
    secrets_file = folder / "secrets.json"
    secrets_file.write_text(to_json(secrets))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.frozen_peer",
        str(secrets_file),
        service,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    try:
        assert child.stdout
        async with asyncio.timeout(30):
            yield FrozenPeer(int(await child.stdout.readline()), child.pid)
    finally:
        child.kill()
        await child.wait()


async def _serve(secrets_file: str, service: str) -> None:
    async with open_echo(from_json(Path(secrets_file).read_text()), service=service) as echo:
        echo.script.events = 1
        echo.script.stream = asyncio.Event().wait
        sys.stdout.write(f"{echo.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
