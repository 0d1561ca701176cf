"""Many rows at once, as release 0.1.0 stores them, and what its replicas go on doing meanwhile."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from mesh_common.ids import new_id

from support.release_0_1_0 import OldDatabase, as_app

FILLED: Final = {"auth": ("users", "usage"), "agent": ("threads", "runs", "messages")}
_USERS: Final = 1_000
_FILL_TIMEOUT_S: Final = 600

# $1 is the number of rows, $2 the users. Statements are separated by semicolons.
_FILL: Final = {
    "auth": """
        INSERT INTO auth.users (user_id, email, email_key, created_at)
        SELECT id, id::text, id::text, now() FROM unnest($2::uuid[]) AS id WHERE $1::int > 0;
        INSERT INTO auth.usage (run_id, user_id, model, input_tokens, output_tokens, cost_micro_usd, ended_at)
        SELECT gen_random_uuid(), ($2::uuid[])[1 + n % cardinality($2::uuid[])], 'model', 100, 200, 300,
               now() - n * interval '1 second'
        FROM generate_series(1, $1::int) AS n
    """,
    "agent": """
        INSERT INTO agent.threads (id, user_id, title)
        SELECT id, id, 'A title' FROM unnest($2::uuid[]) AS id WHERE $1::int > 0;
        INSERT INTO agent.runs (id, user_id, thread_id, status, attempt, model, request_hash, started_at, ended_at,
                                finish_reason, input_tokens, output_tokens, cost_micro_usd)
        SELECT gen_random_uuid(), id, id, 'succeeded', 1, 'model', sha256(n::text::bytea), now(), now(),
               'stop', 100, 200, 300
        FROM (SELECT n, ($2::uuid[])[1 + n % cardinality($2::uuid[])] AS id FROM generate_series(1, $1::int) AS n) AS r;
        INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content)
        SELECT gen_random_uuid(), user_id, thread_id, id, position, 0, 'user', repeat('word ', 40)
        FROM agent.runs WHERE $1::int > 0 AND user_id = ANY($2::uuid[])
    """,
}
# What a replica of 0.1.0 does for a user; $1 is a new id, $2 the user.
_WORK: Final = {
    "auth": """
        INSERT INTO auth.usage (run_id, user_id, model, input_tokens, output_tokens, cost_micro_usd, ended_at)
        VALUES ($1, $2, 'model', 1, 2, 3, now());
        SELECT sum(input_tokens) FROM auth.usage
        WHERE user_id = $2 AND run_id <> $1 AND ended_at > now() - interval '1 day'
    """,
    "agent": """
        INSERT INTO agent.runs (id, user_id, thread_id, status) VALUES ($1, $2, $2, 'running');
        INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content)
        SELECT $1, $2, thread_id, id, position, 0, 'user', 'Hi' FROM agent.runs WHERE id = $1;
        UPDATE agent.runs SET status = 'succeeded', ended_at = now() WHERE id = $1 AND user_id = $2;
        UPDATE agent.threads SET updated_at = now() WHERE id = $2 AND $1::uuid IS NOT NULL;
        SELECT content FROM agent.messages WHERE thread_id = $2 AND id <> $1 ORDER BY position DESC LIMIT 60
    """,
}


async def fill(admin: Any, schema: str, rows: int) -> list[UUID]:
    """`rows` rows in each of the large tables; their users. As a superuser, which leaves foreign keys unchecked."""
    users = [new_id() for _ in range(_USERS)]
    async with admin.transaction():
        await admin.execute("SET LOCAL session_replication_role = replica")
        for statement in _FILL[schema].split(";"):
            await admin.execute(statement, rows, users, timeout=_FILL_TIMEOUT_S)
    await admin.execute(f"ANALYZE {', '.join(f'{schema}.{table}' for table in FILLED[schema])}")
    return users


@dataclass
class Replica:
    """Transactions of 0.1.0, one after the other until it is stopped, and how long each took.

    A statement that waits `max_lock_wait_s` for a lock raises asyncpg's LockNotAvailableError. Time that the machine
    spends on other work does not count.
    """

    old: OldDatabase
    users: Sequence[UUID]
    max_lock_wait_s: float
    took_s: list[float] = field(default_factory=list)
    is_stopped: bool = False

    async def work(self) -> None:
        async with self.old.connection() as connection:
            await connection.execute(f"SET lock_timeout = {round(self.max_lock_wait_s * 1000)}")
            while not self.is_stopped:
                began_s = time.perf_counter()
                await self._turn(connection, self.users[len(self.took_s) % len(self.users)])
                self.took_s.append(time.perf_counter() - began_s)

    async def _turn(self, connection: Any, user_id: UUID) -> None:
        new = new_id()
        async with connection.transaction():
            await as_app(connection, self.old.schema, user_id)
            for statement in _WORK[self.old.schema].split(";"):
                await connection.execute(statement, new, user_id)

    async def hold_locks(self, seconds: float) -> None:
        """Reads everything in transactions that stay open for so long, with no pause between them."""
        async with self.old.connection() as connection:
            while not self.is_stopped:
                async with connection.transaction():
                    await as_app(connection, self.old.schema, self.users[0])
                    for table in FILLED[self.old.schema]:
                        await connection.execute(f"SELECT 1 FROM {self.old.schema}.{table} LIMIT 1")  # noqa: S608
                    await connection.execute("SELECT pg_sleep($1)", seconds)
