"""If the database is not as required, `migrate` and `bootstrap-db` soon fail with one line and change nothing."""

import asyncio
import base64
import re
import socket
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import psycopg
import pytest
from mesh_admin.bootstrap_db import BootstrapSettings, bootstrap
from mesh_admin.scram import scram_verifier
from mesh_admin.secrets import new_password
from mesh_common.database.migrate import migrate
from mesh_common.errors import PreconditionFailed, Unavailable
from mesh_dev.postgres import EmbeddedPostgres
from pydantic import SecretStr
from support.mesh import TestMesh
from support.net import free_port
from support.scratch import SCHEMA, bootstrapped, write_migrations

PASSWORD = "hush-hush"
BOUND_S = 30.0


async def command(module: str, name: str, env: dict[str, str]) -> tuple[int | None, str]:
    """Exit code and standard error of `python -m <module> <name>`, which must end within the bound."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, name, env=env, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(BOUND_S):
        output, errors = await process.communicate()
    assert PASSWORD not in output.decode()
    return process.returncode, errors.decode()


async def migrating(url: str) -> tuple[int | None, str]:
    env = {"EVAL_OWNER_DATABASE_URL": url, "EVAL_MIGRATION_TIMEOUT_S": "1"}
    return await command("mesh_eval", "migrate", env)


async def bootstrapping(url: str) -> tuple[int | None, str]:
    env = {
        "BOOTSTRAP_ADMIN_DATABASE_URL": url,
        "BOOTSTRAP_DATABASE_PASSWORDS": f'{{"auth_owner": "{PASSWORD}"}}',
    }
    return await command("mesh_admin", "bootstrap-db", env)


async def test_migrate_says_that_nobody_listens() -> None:
    port = free_port()

    code, errors = await migrating(f"postgresql://eval_owner:{PASSWORD}@127.0.0.1:{port}/mesh")

    assert code == 1
    assert errors.startswith(f"Migration of eval failed: the database at 127.0.0.1:{port} cannot be reached (")
    assert len(errors.splitlines()) == 1
    assert PASSWORD not in errors


async def test_migrate_says_that_the_database_does_not_answer() -> None:
    # The operating system accepts connections, but nothing ever responds.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code, errors = await migrating(f"postgresql://eval_owner:{PASSWORD}@{address}/mesh")

    assert code == 1
    assert errors == f"Migration of eval failed: no answer in time from the database at {address}.\n"


async def test_migrate_says_that_the_password_is_wrong(test_mesh: TestMesh) -> None:
    code, errors = await migrating(f"postgresql://eval_owner:{PASSWORD}@{test_mesh.database}/mesh")

    assert code == 1
    assert errors == (
        'Migration of eval failed: password authentication failed for user "eval_owner"'
        f" (database at {test_mesh.database}).\n"
    )


async def test_bootstrap_says_that_nobody_listens() -> None:
    port = free_port()

    code, errors = await bootstrapping(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/mesh")

    assert code == 1
    assert errors.startswith(f"bootstrap-db failed: the database at 127.0.0.1:{port} cannot be reached (")
    assert len(errors.splitlines()) == 1
    assert PASSWORD not in errors


async def test_bootstrap_by_a_login_that_may_not_says_what_it_may_not(test_mesh: TestMesh) -> None:
    code, errors = await bootstrapping(test_mesh.database_url("eval"))

    assert code == 1
    assert errors.startswith("bootstrap-db failed: permission denied ")
    assert len(errors.splitlines()) == 1
    assert test_mesh.secrets.passwords["eval_login_a"] not in errors


@pytest.fixture
async def own_url(postgres: EmbeddedPostgres, test_mesh: TestMesh, request: pytest.FixtureRequest) -> str:
    """The owner's URL of an empty database for this test only."""
    name = f"commands_{abs(hash(request.node.name)) % 10**9}"
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, name)
    return test_mesh.database_url(SCHEMA, "owner").replace("/mesh", f"/{name}")


async def failed(url: str, migrations: Path, timeout_s: float) -> tuple[str, float]:
    """The error message of `migrate`, and the seconds until it failed."""
    started_s = time.monotonic()
    with pytest.raises((Unavailable, PreconditionFailed)) as fault:
        await asyncio.to_thread(migrate, url, schema=SCHEMA, migrations=migrations, timeout_s=timeout_s)
    return fault.value.message, time.monotonic() - started_s


async def _one_column_to_add(own_url: str, tmp_path: Path) -> Path:
    """Migrates to the revision before, and returns the migrations."""
    old = write_migrations(tmp_path / "old")
    new = write_migrations(tmp_path / "new", "ALTER TABLE eval.notes ADD COLUMN more int")
    await asyncio.to_thread(migrate, own_url, schema=SCHEMA, migrations=old)
    return new


async def test_migration_that_waits_for_a_lock_gives_up_soon(own_url: str, tmp_path: Path) -> None:
    """A pending lock blocks every later statement, including those of the running release."""
    new = await _one_column_to_add(own_url, tmp_path)
    reader = await asyncpg.connect(own_url)
    try:
        async with reader.transaction():
            await reader.fetch("SELECT text FROM eval.notes")
            message, took_s = await failed(own_url, new, timeout_s=60)
    finally:
        await reader.close()

    assert message.startswith("Migration 0002 of eval failed: canceling statement due to lock timeout ")
    assert took_s < 20


async def test_migration_waits_for_a_transaction_that_ends(own_url: str, tmp_path: Path) -> None:
    """Never for long at a time: each wait is shorter than the transaction that it is for."""
    new = await _one_column_to_add(own_url, tmp_path)
    reader = await asyncpg.connect(own_url)
    try:
        async with asyncio.TaskGroup() as group, reader.transaction():
            await reader.fetch("SELECT text FROM eval.notes")
            migrating = group.create_task(asyncio.to_thread(migrate, own_url, schema=SCHEMA, migrations=new))
            await reader.fetch("SELECT pg_sleep(2)")
            assert not migrating.done()
        assert await reader.fetchval("SELECT count(more) FROM eval.notes") == 0
    finally:
        await reader.close()


async def test_migration_that_takes_too_long_is_undone(own_url: str, tmp_path: Path) -> None:
    slow = write_migrations(tmp_path / "slow", "SELECT pg_sleep(60)")

    _, took_s = await failed(own_url, slow, timeout_s=2)

    assert took_s < 15
    assert await tables(own_url) == []


async def test_migration_that_another_one_keeps_waiting_gives_up(own_url: str, tmp_path: Path) -> None:
    holder = await asyncpg.connect(own_url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT pg_advisory_xact_lock(7310021, hashtext('eval'))")
            message, took_s = await failed(own_url, write_migrations(tmp_path / "m"), timeout_s=2)
    finally:
        await holder.close()

    assert message.startswith("Migration of eval failed: ")
    assert took_s < 15


async def test_failure_quotes_no_row(own_url: str, tmp_path: Path) -> None:
    rows = write_migrations(
        tmp_path / "rows",
        "INSERT INTO eval.notes (user_id, text) VALUES (gen_random_uuid(), 'hush-hush')",
        "ALTER TABLE eval.notes ADD CHECK (text = 'other')",
    )

    message, _ = await failed(own_url, rows, timeout_s=30)

    assert message.startswith("Migration 0003 of eval failed: ")
    assert PASSWORD not in message


async def tables(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'eval'")
    finally:
        await connection.close()
    return [row["tablename"] for row in rows]


async def test_password_of_one_login_is_changed_and_no_other(postgres: EmbeddedPostgres, test_mesh: TestMesh) -> None:
    """This is how a database password is rotated: the unused login gets a new one, then services switch to it."""
    admin_url = await postgres.create_database("mesh")
    new = new_password()

    await bootstrap(settings_of(admin_url, {"eval_login_b": new}))
    try:
        moved = await logs_in(f"postgresql://eval_login_b:{new}@{test_mesh.database}/mesh")
        former = await logs_in(test_mesh.database_url("eval", "login_b"))
        others = [await logs_in(test_mesh.database_url("eval", login)) for login in ("login_a", "owner")]
    finally:
        await bootstrap(settings_of(admin_url, {"eval_login_b": test_mesh.secrets.passwords["eval_login_b"]}))

    assert moved
    assert not former
    assert others == [True, True]


# The last one is changed by SASLprep, and the one before is forbidden by it.
PASSWORDS = ["0123456789abcdefghijklmnopqrstuvwxyz", 'it\'s 100 % \\ "quoted"', "🎈é\x07", "pässwo\u0308rd\u00a0Ⅸ"]


@pytest.mark.parametrize("password", PASSWORDS)
async def test_verifier_is_that_of_libpq(postgres: EmbeddedPostgres, password: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres.admin_url) as connection:
        expected = connection.pgconn.encrypt_password(password.encode(), b"anybody", b"scram-sha-256").decode()

    salt = base64.b64decode(re.split(r"[$:]", expected)[2])
    assert scram_verifier(password, salt=salt) == expected


@pytest.mark.parametrize("password", PASSWORDS)
async def test_password_never_reaches_the_server(
    postgres: EmbeddedPostgres, test_mesh: TestMesh, password: str
) -> None:
    """Whatever a client sends may be logged: statements and their parameters."""
    admin_url = await postgres.create_database("mesh")

    try:
        async with recorded(admin_url) as (url, sent):
            await bootstrap(settings_of(url, {"eval_login_b": password}))
        moved = await logs_in(f"postgresql://eval_login_b:{quote(password)}@{test_mesh.database}/mesh")
    finally:
        await bootstrap(settings_of(admin_url, {"eval_login_b": test_mesh.secrets.passwords["eval_login_b"]}))

    assert b"ALTER ROLE eval_login_b PASSWORD 'SCRAM-SHA-256$" in sent
    assert password.encode() not in sent
    assert moved


@asynccontextmanager
async def recorded(url: str) -> AsyncIterator[tuple[str, bytearray]]:
    """The same database behind a proxy, and the bytes that its clients send."""
    sent = bytearray()
    parts = urlsplit(url)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe(reader, to_server, sent))
            group.create_task(pipe(from_server, writer, bytearray()))

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield url.replace(f":{parts.port}/", f":{port}/"), sent


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    while data := await reader.read(65_536):
        kept += data
        writer.write(data)
        await writer.drain()
    writer.close()


def settings_of(admin_url: str, passwords: dict[str, str]) -> BootstrapSettings:
    return BootstrapSettings(
        admin_database_url=SecretStr(admin_url),
        database_passwords={role: SecretStr(password) for role, password in passwords.items()},
    )


async def logs_in(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url)
    except asyncpg.InvalidPasswordError:
        return False
    await connection.close()
    return True
