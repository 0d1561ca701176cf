"""A database as release 0.1.0 leaves it: its migrations, and rows written in its way.

Its code names `mesh.user_id` alone in a transaction, and no `org_id` in a statement.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
from mesh_agent.bootstrap import MIGRATIONS as AGENT
from mesh_auth.bootstrap import MIGRATIONS as AUTH
from mesh_common.database.migrate import BACKFILL_S, migrate
from mesh_common.ids import new_id
from mesh_eval.bootstrap import MIGRATIONS as EVAL
from mesh_memory.bootstrap import MIGRATIONS as MEMORY

from support.mesh import TestMesh

MIGRATIONS: Final = {"auth": AUTH, "memory": MEMORY, "eval": EVAL, "agent": AGENT}
_NEWEST: Final = {"auth": "0001", "memory": "0001", "eval": "0001", "agent": "0002"}

# One row a table; $1 is a new id, the same in all statements of a service, and $2 the user. The statements are
# separated by semicolons, and each names both, as asyncpg wants it.
_AS_USER: Final = {
    "auth": """
        INSERT INTO auth.users (user_id, email, email_key, created_at)
        VALUES ($2, $1::uuid::text, $1::uuid::text, now());
        INSERT INTO auth.credentials (user_id, password_hash) VALUES ($2, $1::uuid::text);
        INSERT INTO auth.sessions (session_id, user_id, created_at, expires_at) VALUES ($1, $2, now(), now());
        INSERT INTO auth.refresh_tokens (token_hash, session_id, user_id, created_at, expires_at)
        VALUES (sha256($1::uuid::text::bytea), $1, $2, now(), now());
        INSERT INTO auth.revocations (session_id, user_id, expires_at) VALUES ($1, $2, now());
        INSERT INTO auth.entitlement_overrides (user_id) SELECT $2 WHERE $1::uuid IS NOT NULL;
        INSERT INTO auth.usage (run_id, user_id, model, input_tokens, output_tokens, cost_micro_usd, ended_at)
        VALUES ($1, $2, 'm', 1, 2, 3, now())
    """,
    "memory": """
        INSERT INTO memory.memories (id, user_id, text, text_hash, origin, embedding_model, embedding)
        VALUES ($1, $2, 'I like tea.', sha256($1::uuid::text::bytea), 'written', 'space', '[1]');
        INSERT INTO memory.remembered_runs (user_id, run_id) VALUES ($2, $1);
        INSERT INTO memory.jobs (id, kind, key, user_id, payload, trace_context, due_at)
        VALUES ($1, 'later', $1::uuid::text, $2, '{}', '{}', now() + interval '1 day')
    """,
    "eval": """
        INSERT INTO eval.scores
            (user_id, run_id, name, status, value, reasoning, run_model, judge_model, prompt_hash, created_at)
        VALUES ($2, $1, 'toxicity', 'succeeded', 1, '', 'm', 'm', 'h', now());
        INSERT INTO eval.jobs (id, kind, key, user_id, payload, trace_context, due_at)
        VALUES ($1, 'later', $1::uuid::text, $2, '{}', '{}', now() + interval '1 day')
    """,
    "agent": """
        INSERT INTO agent.threads (id, user_id) VALUES ($1, $2);
        INSERT INTO agent.runs (id, user_id, thread_id, status) VALUES ($1, $2, $1, 'pending');
        INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content)
        SELECT $1, $2, $1, $1, position, 0, 'user', 'Hi' FROM agent.runs WHERE id = $1;
        INSERT INTO agent.once_calls (run_id, call_key, user_id, fence) VALUES ($1, 'c', $2, 1);
        INSERT INTO agent.outbox (id, kind, key, user_id, payload, trace_context, due_at)
        VALUES ($1, 'later', $1::uuid::text, $2, '{}', '{}', now() + interval '1 day');
        INSERT INTO agent.checkpoints (thread_id, checkpoint_id, checkpoint, metadata)
        SELECT $1::uuid::text, 'c', '{}', '{}' WHERE $2::uuid IS NOT NULL;
        INSERT INTO agent.checkpoint_blobs (thread_id, channel, version, type)
        SELECT $1::uuid::text, 'messages', '1', 'msgpack' WHERE $2::uuid IS NOT NULL;
        INSERT INTO agent.checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, blob)
        SELECT $1::uuid::text, 'c', 't', 0, 'messages', '' WHERE $2::uuid IS NOT NULL
    """,
}
# What 0.1.0 writes across users, and so without any setting.
_AS_WORKER: Final = {
    "agent": """
        INSERT INTO agent.leases (thread_id, user_id, run_id, owner, owner_address, fence, expires_at)
        VALUES ($1, $2, $1, 'dead', '', 0, now())
    """,
}


@dataclass(frozen=True)
class OldDatabase:
    """One service's schema in a database of its own, as 0.1.0 made it."""

    mesh: TestMesh
    name: str
    schema: str

    def url(self, login: str = "login_a") -> str:
        return self.mesh.database_url(self.schema, login).replace("/mesh", f"/{self.name}")

    def migrate_to_0_1_0(self, folder: Path) -> None:
        """`folder` takes copies of its migrations."""
        versions = folder / "versions"
        versions.mkdir(parents=True)
        for migration in (MIGRATIONS[self.schema] / "versions").glob("[0-9]*.py"):
            if migration.name[:4] <= _NEWEST[self.schema]:
                shutil.copy(migration, versions)
        migrate(self.url("owner"), schema=self.schema, migrations=folder)

    def migrate(self, backfill_s: float = BACKFILL_S) -> None:
        migrate(self.url("owner"), schema=self.schema, migrations=MIGRATIONS[self.schema], backfill_s=backfill_s)

    async def add_rows(self, user_id: UUID) -> None:
        """One in every table, as the code of 0.1.0 writes it, before the migration or beside the next release."""
        async with self.connection() as connection:
            new = new_id()
            for role, statements in (("app", _AS_USER), ("worker", _AS_WORKER)):
                async with connection.transaction():
                    await _take(connection, f"{self.schema}_{role}", str(user_id) if role == "app" else "")
                    for statement in filter(str.strip, statements.get(self.schema, "").split(";")):
                        await connection.execute(statement, new, user_id)

    @asynccontextmanager
    async def connection(self, login: str = "login_a") -> AsyncIterator[Any]:
        async with connected(self.url(login)) as connection:
            yield connection


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def as_app(connection: Any, schema: str, user_id: UUID) -> None:
    """Begins what a transaction of 0.1.0 for a user begins with."""
    await _take(connection, f"{schema}_app", str(user_id))


async def _take(connection: Any, role: str, user_id: str) -> None:
    settings = "SELECT set_config('role', $1, true), set_config('mesh.user_id', $2, true)"
    await connection.execute(settings, role, user_id)
