"""The SQL of administrators: lists accounts, disables them, ends all sessions of a user."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from mesh_common.database.statements import Statement
from mesh_common.ids import UserId
from mesh_common.subject import Subject
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_auth.domain import User

# User ids are UUIDv7, so their order is that of creation.
_LIST_USERS = Statement(
    "auth.list_users",
    """
    SELECT user_id, email, created_at, is_admin, disabled_at FROM auth.users
    WHERE :after::uuid IS NULL OR user_id < :after::uuid
    ORDER BY user_id DESC LIMIT :limit::int
    """,
)
# In the order of ids, so that two transactions cannot deadlock.
_LOCK_ENABLED_ADMINS = Statement(
    "auth.lock_enabled_admins",
    # NO KEY: an administrator's own refresh holds their session, and then needs their row as a foreign key.
    "SELECT user_id FROM auth.users WHERE is_admin AND disabled_at IS NULL ORDER BY user_id FOR NO KEY UPDATE",
)
_SET_DISABLED = Statement(
    "auth.set_disabled", "UPDATE auth.users SET disabled_at = :disabled_at WHERE user_id = :user_id"
)
_SET_PASSWORD_HASH = Statement(
    "auth.set_password_hash", "UPDATE auth.credentials SET password_hash = :password_hash WHERE user_id = :user_id"
)
# A statement of its own, before the sessions are read: it waits for logins that are starting one (FOR SHARE).
_RAISE_EPOCH = Statement(
    "auth.raise_session_epoch", "UPDATE auth.users SET session_epoch = session_epoch + 1 WHERE user_id = :user_id"
)
_END_ALL_SESSIONS = Statement(
    "auth.end_all_sessions",
    """
    WITH ended AS (
        UPDATE auth.sessions SET ended_at = :now WHERE user_id = :user_id AND ended_at IS NULL RETURNING session_id
    )
    INSERT INTO auth.revocations (session_id, org_id, user_id, expires_at)
    SELECT session_id, :org_id::uuid, :user_id, :revoked_until::timestamptz FROM ended
    ON CONFLICT (session_id) DO NOTHING
    """,
)


class PostgresAdministrationStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list_users(self, *, after: UserId | None, limit: int) -> Sequence[User]:
        rows = await _LIST_USERS.rows(self._connection, {"after": after, "limit": limit})
        return [user_of(row) for row in rows]

    async def lock_enabled_admins(self) -> set[UserId]:
        return {UserId(row["user_id"]) for row in await _LOCK_ENABLED_ADMINS.rows(self._connection, {})}

    async def set_disabled(self, user_id: UserId, disabled_at: datetime | None) -> None:
        await _SET_DISABLED.count(self._connection, {"user_id": user_id, "disabled_at": disabled_at})

    async def set_password_hash(self, user_id: UserId, password_hash: str) -> None:
        await _SET_PASSWORD_HASH.count(self._connection, {"user_id": user_id, "password_hash": password_hash})

    async def end_all_sessions(self, subject: Subject, *, now: datetime, revoked_until: datetime) -> int:
        values: dict[str, UUID | datetime] = {
            "user_id": subject.user_id,
            "org_id": subject.organisation_id,
            "now": now,
            "revoked_until": revoked_until,
        }
        await _RAISE_EPOCH.count(self._connection, values)
        return await _END_ALL_SESSIONS.count(self._connection, values)


def user_of(row: Mapping[str, Any]) -> User:
    return User(
        UserId(row["user_id"]),
        row["email"],
        row["created_at"],
        is_admin=row["is_admin"],
        disabled_at=row["disabled_at"],
    )
