"""`bootstrap-db`: roles, schemas and the vector extension, made with an administrator's connection.

Safe to run again; passwords given are set anew, which is how a password is rotated (DESIGN §5, Database).
"""

import asyncio

import asyncpg
import structlog
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from mesh_common.settings import settings_config

log = structlog.get_logger()

SCHEMAS = ("auth", "agent", "memory", "eval")
_LOGINS = ("owner", "login_a", "login_b")


class BootstrapSettings(BaseSettings):
    """What `bootstrap-db` is told, prefix `BOOTSTRAP_`."""

    model_config = settings_config("BOOTSTRAP_")

    admin_database_url: SecretStr
    """`postgresql://…` of a role that may create roles, schemas and extensions."""
    database_passwords: dict[str, SecretStr] = Field(min_length=1)
    """JSON: password by role (`auth_owner`, `auth_login_a`, `auth_login_b`, …), as `make secrets` gives it."""


def bootstrap_database(settings: BootstrapSettings) -> None:
    asyncio.run(bootstrap(settings))


async def bootstrap(settings: BootstrapSettings) -> None:
    connection = await asyncpg.connect(settings.admin_database_url.get_secret_value(), timeout=10, command_timeout=30)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(7310020)")
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
            await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            for schema in SCHEMAS:
                await _bootstrap_schema(connection, schema, settings.database_passwords)
    finally:
        await connection.close()
    log.info("bootstrap.done", schemas=SCHEMAS)


async def _bootstrap_schema(connection: asyncpg.Connection, schema: str, passwords: dict[str, SecretStr]) -> None:
    for suffix in ("app", "worker"):
        await _ensure_role(connection, f"{schema}_{suffix}", "NOLOGIN NOINHERIT")
    for suffix in _LOGINS:
        await _ensure_login(connection, f"{schema}_{suffix}", passwords)
    await connection.execute(f"GRANT {schema}_app, {schema}_worker TO {schema}_login_a, {schema}_login_b")
    # The administrator of a managed database is no superuser: to give a schema away it must be a member.
    await connection.execute(f"GRANT {schema}_owner TO CURRENT_USER")
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {schema}_owner")
    await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}_app, {schema}_worker")
    for suffix in ("owner", "login_a", "login_b"):
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
        literal = await connection.fetchval("SELECT quote_literal($1::text)", password.get_secret_value())
        await connection.execute(f"ALTER ROLE {role} PASSWORD {literal}")


async def _ensure_role(connection: asyncpg.Connection, role: str, options: str) -> None:
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await connection.execute(f"CREATE ROLE {role} {options}")
