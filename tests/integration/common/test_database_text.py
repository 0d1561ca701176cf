"""A database with an unsuitable encoding, locale or pgvector is rejected in plain words and left unchanged."""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
import pytest
from asyncpg import Record
from mesh_admin.bootstrap_db import BootstrapSettings, bootstrap
from mesh_common.database.migrate import migrate
from mesh_common.database.statements import AnyConnection, Statement
from mesh_common.database.text_rules import TEXT_SQL, text_fault
from mesh_common.errors import PreconditionFailed
from mesh_dev.postgres import EmbeddedPostgres
from pydantic import SecretStr
from support.mesh import TestMesh
from support.scratch import SCHEMA, bootstrapped, open_scratch, write_migrations

NO_CASE = "the database's locale knows the case of ASCII letters only: lower('Ä') is not 'ä'"
UNSUITABLE = {
    "LOCALE_PROVIDER libc LOCALE 'C'": NO_CASE,
    "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C' LOCALE 'C.UTF-8'": NO_CASE,
    "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'": (
        "the database's LC_CTYPE is C: text search and trigrams would know ASCII letters only"
    ),
    "ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'": (
        "the database's encoding is LATIN1 instead of UTF8, which cannot hold every language"
    ),
    "ENCODING 'EUC_KR' LOCALE_PROVIDER libc LOCALE 'C'": (
        "the database's encoding is EUC_KR instead of UTF8, which cannot hold every language"
    ),
    "ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'": (
        "the database's encoding is SQL_ASCII instead of UTF8, which cannot hold every language"
    ),
}
SUITABLE = ("LOCALE_PROVIDER libc LOCALE 'C.UTF-8'", "LOCALE_PROVIDER builtin LOCALE 'C.UTF-8'")


async def made_with(postgres: EmbeddedPostgres, options: str, name: str = "odd_text") -> str:
    """The administrator's URL of a new database, which replaces a previous one of that name."""
    connection = await asyncpg.connect(postgres.admin_url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
    finally:
        await connection.close()
    return postgres.url_of(name)


def settings_of(url: str, test_mesh: TestMesh) -> BootstrapSettings:
    password = SecretStr(test_mesh.secrets.passwords["eval_login_a"])
    return BootstrapSettings(admin_database_url=SecretStr(url), database_passwords={"eval_login_a": password})


async def fetchval(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@pytest.mark.parametrize("options", UNSUITABLE)
async def test_bootstrap_says_what_would_differ_and_changes_nothing(
    postgres: EmbeddedPostgres, test_mesh: TestMesh, options: str
) -> None:
    url = await made_with(postgres, options)

    with pytest.raises(PreconditionFailed) as refused:
        await bootstrap(settings_of(url, test_mesh))

    assert refused.value.message.startswith(
        f"bootstrap-db failed: {UNSUITABLE[options]}. Nothing was changed; create it"
    )
    assert len(refused.value.message.splitlines()) == 1
    assert await fetchval(url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'eval'") == 0


@pytest.mark.parametrize("options", SUITABLE)
async def test_bootstrap_takes_any_locale_that_knows_unicode(
    postgres: EmbeddedPostgres, test_mesh: TestMesh, options: str
) -> None:
    url = await made_with(postgres, options)

    await bootstrap(settings_of(url, test_mesh))

    assert await fetchval(url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'eval'") == 1


async def test_bootstrap_refuses_an_older_pgvector(postgres: EmbeddedPostgres, test_mesh: TestMesh) -> None:
    url = await made_with(postgres, SUITABLE[0])
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE EXTENSION vector")
    await connection.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    await connection.close()

    with pytest.raises(PreconditionFailed, match=r"pgvector is 0\.7\.4, and the mesh needs 0\.8\.0 or newer"):
        await bootstrap(settings_of(url, test_mesh))

    assert await fetchval(url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'eval'") == 0


async def test_development_database_treats_text_as_the_choice_says(postgres: EmbeddedPostgres) -> None:
    url = await postgres.create_database("as_chosen")
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(TEXT_SQL)
        chosen = await connection.fetchrow(
            "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = current_database()"
        )
    finally:
        await connection.close()

    assert text_fault(*row) is None
    assert tuple(chosen) == (b"b", "C.UTF-8")


async def test_trigrams_of_the_development_database_keep_other_letters(postgres: EmbeddedPostgres) -> None:
    """With LC_CTYPE C they were `  b`, `  r`, ` be`, ` rg`, `ber`, `er `, `ger`, `rge`, without umlauts and Korean."""
    url = await made_with(postgres, "", name="trigrams")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE EXTENSION pg_trgm")
        count = await connection.fetchval("SELECT cardinality(show_trgm('Ärger über 한국'))")
    finally:
        await connection.close()

    assert count == 13


async def test_service_is_unready_where_text_would_differ(
    postgres: EmbeddedPostgres, test_mesh: TestMesh, tmp_path_factory: pytest.TempPathFactory
) -> None:
    database = await migrated(postgres, test_mesh, tmp_path_factory, "unready_text")
    admin = await asyncpg.connect(postgres.admin_url)
    await admin.execute("UPDATE pg_database SET datctype = 'C' WHERE datname = $1", database)
    await admin.close()

    async with open_scratch(test_mesh, database) as opened:
        reason = await opened.not_ready_reason("0001")

    assert reason == "the database's LC_CTYPE is C: text search and trigrams would know ASCII letters only"


async def test_service_asks_for_the_locale_once(
    postgres: EmbeddedPostgres,
    test_mesh: TestMesh,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = await migrated(postgres, test_mesh, tmp_path_factory, "asked_once")

    async with open_scratch(test_mesh, database) as opened:
        statements = heard(monkeypatch)
        reasons = [await opened.not_ready_reason("0001") for _ in range(3)]

    assert reasons == [None, None, None]
    assert len([statement for statement in statements if "datctype" in statement]) == 1


def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of the statements from now on."""
    statements: list[str] = []
    rows = Statement.rows

    async def hear(statement: Statement, connection: AnyConnection, values: Mapping[str, Any]) -> list[Record]:
        statements.append(statement.sql)
        return await rows(statement, connection, values)

    monkeypatch.setattr(Statement, "rows", hear)
    return statements


async def migrated(
    postgres: EmbeddedPostgres, test_mesh: TestMesh, tmp_path_factory: pytest.TempPathFactory, name: str
) -> str:
    """The name of a database with the schema of the scratch service."""
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, name)
    migrations = write_migrations(tmp_path_factory.mktemp(name))
    owner_url = test_mesh.database_url(SCHEMA, "owner").replace("/mesh", f"/{name}")
    await asyncio.to_thread(migrate, owner_url, schema=SCHEMA, migrations=migrations)
    return name
