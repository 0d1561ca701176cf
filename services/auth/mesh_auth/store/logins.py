"""The SQL of limits on logins: failures by keyed hash, and the addresses from which owners log in."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from asyncpg import Record
from mesh_common.database.statements import Statement
from mesh_common.ids import UserId
from mesh_common.subject import Subject
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_auth.domain import LoginFailures

# Not a row lock: the first failure of an account has no row yet, and parallel ones must not all pass as the first.
_LOCK = Statement("auth.lock_login", "SELECT pg_advisory_xact_lock(:key::bigint)")
_FIND = Statement(
    "auth.find_login_failures",
    "SELECT key, failures, last_failed_at, pending FROM auth.login_failures WHERE key = ANY(:keys::bytea[])",
)
_PUT = Statement(
    "auth.put_login_failures",
    """
    INSERT INTO auth.login_failures (key, failures, last_failed_at, pending)
    SELECT key, failures, last_failed_at, pending::timestamptz[]
    FROM unnest(:keys::bytea[], :failures::int[], :last_failed_at::timestamptz[], :pending::text[])
        AS given (key, failures, last_failed_at, pending)
    ON CONFLICT (key) DO UPDATE
    SET failures = excluded.failures, last_failed_at = excluded.last_failed_at, pending = excluded.pending
    """,
)
_FORGET = Statement("auth.forget_login_failures", "DELETE FROM auth.login_failures WHERE key = ANY(:keys::bytea[])")
_IS_KNOWN = Statement(
    "auth.is_login_address",
    """
    SELECT EXISTS (
        SELECT FROM auth.login_addresses
        WHERE user_id = :user_id AND address_hash = ANY(:hashes::bytea[]) AND last_login_at > :since
    ) AS is_known
    """,
)
_REMEMBER = Statement(
    "auth.remember_login_address",
    """
    INSERT INTO auth.login_addresses AS known (org_id, user_id, address_hash, last_login_at)
    VALUES (:org_id, :user_id, :address_hash, :now)
    ON CONFLICT (user_id, address_hash)
    DO UPDATE SET last_login_at = greatest(known.last_login_at, excluded.last_login_at)
    """,
)
_KEEP_NEWEST = Statement(
    "auth.keep_newest_login_addresses",
    """
    DELETE FROM auth.login_addresses WHERE user_id = :user_id AND address_hash IN (
        SELECT address_hash FROM auth.login_addresses WHERE user_id = :user_id
        ORDER BY last_login_at DESC, address_hash OFFSET :keep
    )
    """,
)
# CTEs: PostgreSQL may execute a subquery in IN once per row, and then exceed its LIMIT.
_PRUNE = (
    Statement(
        "auth.prune_login_failures",
        """
        WITH expired AS MATERIALIZED (
            SELECT key FROM auth.login_failures WHERE last_failed_at < :failed_before
            LIMIT :limit FOR UPDATE SKIP LOCKED
        )
        DELETE FROM auth.login_failures AS failures USING expired WHERE failures.key = expired.key
        """,
    ),
    Statement(
        "auth.prune_login_addresses",
        """
        WITH expired AS MATERIALIZED (
            SELECT user_id, address_hash FROM auth.login_addresses WHERE last_login_at < :seen_before
            LIMIT :limit FOR UPDATE SKIP LOCKED
        )
        DELETE FROM auth.login_addresses AS addresses USING expired
        WHERE addresses.user_id = expired.user_id AND addresses.address_hash = expired.address_hash
        """,
    ),
)


def _failures(row: Record) -> LoginFailures:
    # The column includes the pending ones. A replica of before them may have written less.
    pending = tuple(row["pending"])
    return LoginFailures(max(0, row["failures"] - len(pending)), row["last_failed_at"], pending)


def _array(times: Sequence[datetime]) -> str:
    """As a literal: PostgreSQL has no arrays of arrays of different lengths."""
    return "{" + ",".join(time.isoformat() for time in times) + "}"


class PostgresLoginStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lock_login(self, account_key: bytes) -> None:
        # Two accounts with the same 64 bits wait for each other, and nothing else.
        number = int.from_bytes(account_key[:8], "big", signed=True)
        await _LOCK.rows(self._connection, {"key": number})

    async def find_login_failures(self, keys: Sequence[bytes]) -> dict[bytes, LoginFailures]:
        rows = await _FIND.rows(self._connection, {"keys": list(keys)})
        return {row["key"]: _failures(row) for row in rows}

    async def put_login_failures(self, failures: Mapping[bytes, LoginFailures]) -> None:
        kept = {key: one for key, one in failures.items() if one.count or one.pending}
        dropped = [key for key in failures if key not in kept]
        if kept:
            values = {
                "keys": list(kept),
                "failures": [one.count + len(one.pending) for one in kept.values()],
                "last_failed_at": [one.last_at for one in kept.values()],
                "pending": [_array(one.pending) for one in kept.values()],
            }
            await _PUT.count(self._connection, values)
        if dropped:
            await _FORGET.count(self._connection, {"keys": dropped})

    async def is_login_address(self, user_id: UserId, hashes: Sequence[bytes], *, since: datetime) -> bool:
        values = {"user_id": user_id, "hashes": list(hashes), "since": since}
        row = await _IS_KNOWN.row(self._connection, values)
        return bool(row and row["is_known"])

    async def remember_login_address(self, subject: Subject, address_hash: bytes, *, now: datetime, keep: int) -> None:
        user = {"org_id": subject.organisation_id, "user_id": subject.user_id}
        await _REMEMBER.count(self._connection, {**user, "address_hash": address_hash, "now": now})
        await _KEEP_NEWEST.count(self._connection, {**user, "keep": keep})

    async def prune_logins(self, *, failed_before: datetime, seen_before: datetime, limit: int) -> int:
        bounds = {"failed_before": failed_before, "seen_before": seen_before, "limit": limit}
        return sum([await statement.count(self._connection, bounds) for statement in _PRUNE])
