import os
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from mesh_dev.errors import PostgresUnavailableError
from mesh_dev.postgres import EmbeddedPostgres
from support.net import free_port


@pytest.fixture(scope="module")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), free_port())
    await server.start()
    yield server
    await server.stop()


async def fetch(url: str, query: str) -> tuple[object, ...]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row


async def test_server_is_postgresql_18_with_safe_settings(postgres: EmbeddedPostgres) -> None:
    row = await fetch(
        postgres.admin_url,
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('fsync'),"
        " current_setting('synchronous_commit'), current_setting('max_connections'),"
        " current_setting('server_encoding'), current_setting('password_encryption'),"
        " current_setting('unix_socket_directories')",
    )

    assert row == (18, "on", "on", "200", "UTF8", "scram-sha-256", "")


async def test_vectors_work_in_a_database_of_its_own(postgres: EmbeddedPostgres) -> None:
    url = await postgres.create_database("vectors")

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("CREATE EXTENSION vector")
    distance = await fetch(url, "SELECT '[1,0]'::vector <=> '[1,0]'::vector")

    assert distance == (0.0,)


async def test_making_a_database_twice_keeps_what_it_holds(postgres: EmbeddedPostgres) -> None:
    url = await postgres.create_database("kept")
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("CREATE TABLE facts AS SELECT 7 AS n")

    again = await postgres.create_database("kept")

    assert again == url
    assert await fetch(url, "SELECT n FROM facts") == (7,)


async def test_a_wrong_password_is_refused(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await psycopg.AsyncConnection.connect(postgres.admin_url, password="guessed")


async def test_committed_rows_survive_kill_9_and_connections_that_were_open(postgres: EmbeddedPostgres) -> None:
    url = await postgres.create_database("crash")
    connection = await psycopg.AsyncConnection.connect(url)
    await connection.execute("CREATE TABLE facts AS SELECT 1 AS n")
    await connection.commit()
    await connection.execute("INSERT INTO facts VALUES (2)")

    await postgres.kill()
    await postgres.start()

    assert await fetch(url, "SELECT count(*) FROM facts") == (1,)
    await connection.close()


async def test_lock_file_that_names_another_living_process_does_not_stop_the_start(postgres: EmbeddedPostgres) -> None:
    """After a reboot or a long time, another process may have the process id of the dead server."""
    lock = next(Path(postgres.child.log_path.parent.parent).glob("postgres/data/postmaster.pid"))
    await postgres.kill()
    _, *rest = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getppid()), *rest]))

    await postgres.start()

    assert await fetch(postgres.admin_url, "SELECT 1") == (1,)


async def test_restart_keeps_password_and_data(postgres: EmbeddedPostgres) -> None:
    url = await postgres.create_database("restarted")
    before = postgres.admin_url

    await postgres.restart()

    assert postgres.admin_url == before
    assert await fetch(url, "SELECT current_database()") == ("restarted",)


async def test_second_server_on_the_same_folder_is_refused_in_one_line(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_dev.postgres.LEFTOVERS_TIMEOUT_S", 0.2)
    data_dir = postgres.child.log_path.parent.parent
    second = EmbeddedPostgres(data_dir, free_port())

    with pytest.raises(PostgresUnavailableError, match=f"another PostgreSQL .process {postgres.child.pid}. uses"):
        await second.start()


async def test_initdb_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data.new").mkdir(parents=True)
    (tmp_path / "postgres" / "data.new" / "PG_VERSION").write_text("18")
    server = EmbeddedPostgres(tmp_path, free_port())

    await server.start()
    answer = await fetch(server.admin_url, "SELECT 1")
    await server.stop()

    assert answer == (1,)


async def test_data_folder_of_an_earlier_version_is_refused_with_what_to_do(postgres: EmbeddedPostgres) -> None:
    await postgres.create_database("earlier")
    async with await psycopg.AsyncConnection.connect(postgres.admin_url) as connection:
        await connection.execute("UPDATE pg_database SET datctype = 'C' WHERE datname = 'earlier'")

    with pytest.raises(
        PostgresUnavailableError, match=r"an earlier version created the database in .*: move that folder away"
    ):
        await postgres.create_database("earlier")
