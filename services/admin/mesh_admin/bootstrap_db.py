"""`bootstrap-db`: creates roles, schemas and the vector extension through an administrator's connection.

Refuses a database that would behave differently from those of the tests (docs/adr/0019), before it changes anything.

Safe to run again; passwords given are set anew, which is how a password is rotated.
"""

import asyncio
import re
import sys

import asyncpg
import structlog
from mesh_common.database.faults import reported_in_one_line
from mesh_common.database.text_rules import REMEDY, TEXT_SQL, text_fault
from mesh_common.errors import MeshError, PreconditionFailed
from mesh_common.process.settings import DatabaseUrl, EnvironmentSettings, settings_config
from pydantic import Field, SecretStr, field_validator

from mesh_admin.scram import scram_verifier

log = structlog.get_logger()

SCHEMAS = ("auth", "agent", "memory", "eval")
_LOGINS = ("owner", "login_a", "login_b")
_CONNECT_TIMEOUT_S = 10
_COMMAND_TIMEOUT_S = 30
# Tests run on 0.8. Versions before 0.8.0 have no iterative scans: a search by an index and a filter may find nothing.
OLDEST_PGVECTOR = (0, 8, 0)
LOGIN_ROLES = tuple(f"{schema}_{login}" for schema in SCHEMAS for login in _LOGINS)


class BootstrapSettings(EnvironmentSettings):
    """Settings of `bootstrap-db`, prefix `BOOTSTRAP_`."""

    model_config = settings_config("BOOTSTRAP_")

    admin_database_url: DatabaseUrl
    """`postgresql://…` of a role that may create roles, schemas and extensions."""
    database_passwords: dict[str, SecretStr] = Field(min_length=1)
    """JSON: password by role (`auth_owner`, `auth_login_a`, `auth_login_b`, …), in the form that `make secrets` writes.
    Passwords of other roles are not changed."""

    @field_validator("database_passwords", mode="before")
    @classmethod
    def _are_of_logins(cls, passwords: object) -> object:
        # Before pydantic's own validation: its messages contain keys, which are passwords if the two were swapped.
        if isinstance(passwords, dict) and not _is_password_by_role(passwords):
            raise ValueError(f"must map roles to passwords; roles are {', '.join(LOGIN_ROLES)}")
        return passwords


def _is_password_by_role(passwords: dict[object, object]) -> bool:
    return all(role in LOGIN_ROLES and isinstance(value, str | SecretStr) for role, value in passwords.items())


def bootstrap_database(settings: BootstrapSettings) -> None:
    """On failure, prints one line and exits with code 1."""
    try:
        asyncio.run(bootstrap(settings))
    except MeshError as error:
        sys.exit(error.message)


async def bootstrap(settings: BootstrapSettings) -> None:
    """Raises Unavailable or PreconditionFailed, and has changed nothing then."""
    url = settings.admin_database_url.get_secret_value()
    with reported_in_one_line(url, lambda: "bootstrap-db"):
        await _bootstrap(url, settings.database_passwords)
    log.info("bootstrap.done", schemas=SCHEMAS)


async def _bootstrap(url: str, passwords: dict[str, SecretStr]) -> None:
    connection = await asyncpg.connect(url, timeout=_CONNECT_TIMEOUT_S, command_timeout=_COMMAND_TIMEOUT_S)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(7310020)")
            await _require_text(connection)
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
            await _require_pgvector(connection)
            await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            for schema in SCHEMAS:
                await _bootstrap_schema(connection, schema, passwords)
    finally:
        await connection.close()


async def _require_text(connection: asyncpg.Connection) -> None:
    row = await connection.fetchrow(TEXT_SQL)
    if fault := text_fault(row["encoding"], row["ctype"], row["folds_case"]):
        raise PreconditionFailed(f"bootstrap-db failed: {fault}. Nothing was changed; {REMEDY}.")


async def _require_pgvector(connection: asyncpg.Connection) -> None:
    version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if _numbers(version) < OLDEST_PGVECTOR:
        oldest = ".".join(map(str, OLDEST_PGVECTOR))
        raise PreconditionFailed(
            f"bootstrap-db failed: pgvector is {version}, and the mesh needs {oldest} or newer. Nothing was changed; "
            "install a newer one on the server and run ALTER EXTENSION vector UPDATE in this database."
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Of `0.8.1`; a suffix such as `-dev` counts for nothing."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


async def _bootstrap_schema(connection: asyncpg.Connection, schema: str, passwords: dict[str, SecretStr]) -> None:
    for suffix in ("app", "worker"):
        await _ensure_role(connection, f"{schema}_{suffix}", "NOLOGIN NOINHERIT")
    for suffix in _LOGINS:
        await _ensure_login(connection, f"{schema}_{suffix}", passwords)
    await connection.execute(f"GRANT {schema}_app, {schema}_worker TO {schema}_login_a, {schema}_login_b")
    # The administrator of a managed database is not a superuser: it must be a member of the role that gets the schema.
    await connection.execute(f"GRANT {schema}_owner TO CURRENT_USER")
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {schema}_owner")
    await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}_app, {schema}_worker")
    for suffix in _LOGINS:
        await connection.execute(f"ALTER ROLE {schema}_{suffix} SET search_path = {schema}, public")
    await connection.execute(
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {schema}_owner IN SCHEMA {schema} "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {schema}_app, {schema}_worker"
    )
    await connection.execute(
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {schema}_owner IN SCHEMA {schema} "
        f"GRANT USAGE ON SEQUENCES TO {schema}_app, {schema}_worker"
    )


async def _ensure_login(connection: asyncpg.Connection, role: str, passwords: dict[str, SecretStr]) -> None:
    await _ensure_role(connection, role, "LOGIN NOINHERIT")
    if password := passwords.get(role):
        verifier = scram_verifier(password.get_secret_value())
        await connection.execute(f"ALTER ROLE {role} PASSWORD '{verifier}'")


async def _ensure_role(connection: asyncpg.Connection, role: str, options: str) -> None:
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await connection.execute(f"CREATE ROLE {role} {options}")
