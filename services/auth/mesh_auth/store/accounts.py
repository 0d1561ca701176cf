"""The SQL of accounts and sessions. `store.usage` has that of usage, `store.logins` that of limits on logins, and
`store.administration` that of administrators.

In transactions of the requests' role, new rows get their `org_id` from the transaction. Statements that the worker may
run name it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from mesh_common.database.postgres import Database
from mesh_common.database.statements import Statement
from mesh_common.ids import UserId
from mesh_common.subject import Subject
from sqlalchemy import ColumnElement, Row, Table, delete, exists, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from mesh_auth.domain import (
    Credentials,
    EntitlementOverride,
    PresentedToken,
    Revocation,
    RevocationPage,
    Session,
    SessionId,
    User,
)
from mesh_auth.store.administration import PostgresAdministrationStore, user_of
from mesh_auth.store.logins import PostgresLoginStore
from mesh_auth.store.revocation_cursor import RevocationCursor
from mesh_auth.store.usage import PostgresUsageStore
from mesh_auth.tables import (
    credentials,
    entitlement_overrides,
    memberships,
    organisations,
    refresh_tokens,
    revocations,
    sessions,
    users,
)

_OWNER = "owner"
"""The role of a user in their personal organisation."""
_USER_COLUMNS = (users.c.user_id, users.c.email, users.c.created_at, users.c.is_admin, users.c.disabled_at)

_CURRENT_SNAPSHOT = text("SELECT pg_current_snapshot()::text")
# The casts go through text because asyncpg has codecs of its own for snapshots and none for xid8.
_REVOCATIONS = text(
    """
    SELECT session_id, expires_at, xid::text AS xid
    FROM auth.revocations
    WHERE expires_at > :now
      AND xid >= pg_snapshot_xmin(CAST(CAST(:seen AS text) AS pg_snapshot))
      AND NOT pg_visible_in_snapshot(xid, CAST(CAST(:seen AS text) AS pg_snapshot))
      AND pg_visible_in_snapshot(xid, CAST(CAST(:target AS text) AS pg_snapshot))
      AND (xid, session_id) > (CAST(CAST(:after_xid AS text) AS xid8), CAST(:after_id AS uuid))
    ORDER BY xid, session_id
    LIMIT :limit
    """
)

_FIND_USER = Statement(
    "auth.find_user",
    "SELECT user_id, email, created_at, is_admin, disabled_at FROM auth.users WHERE user_id = :user_id",
)
# The statements of a login, because logins come in bursts.
_FIND_CREDENTIALS = Statement(
    "auth.find_credentials",
    """
    SELECT u.user_id, u.email, u.created_at, u.is_admin, u.disabled_at, u.session_epoch, c.password_hash
    FROM auth.users u JOIN auth.credentials c USING (user_id)
    WHERE u.email_key = :email_key
    """,
)
# FOR SHARE waits for a transaction that ends all sessions of the user, and then sees the epoch that it wrote.
_START_SESSION = Statement(
    "auth.start_session",
    """
    WITH account AS (
        SELECT user_id FROM auth.users
        WHERE user_id = :user_id AND session_epoch = :epoch AND disabled_at IS NULL
        FOR SHARE
    ), session AS (
        INSERT INTO auth.sessions (session_id, user_id, created_at, expires_at)
        SELECT :session_id::uuid, user_id, :created_at::timestamptz, :expires_at::timestamptz FROM account
    )
    INSERT INTO auth.refresh_tokens (token_hash, session_id, user_id, created_at, expires_at)
    SELECT :token_hash::bytea, :session_id::uuid, user_id, :created_at::timestamptz, :expires_at::timestamptz
    FROM account
    """,
)


class PostgresAuthDatabase:
    """Transactions of the service's two roles, each with a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def as_subject(self, subject: Subject) -> AsyncIterator["PostgresAuthStore"]:
        async with self._database.as_subject(subject) as connection:
            yield PostgresAuthStore(connection)

    @asynccontextmanager
    async def as_worker(self) -> AsyncIterator["PostgresAuthStore"]:
        async with self._database.as_worker() as connection:
            yield PostgresAuthStore(connection)


class PostgresAuthStore(PostgresUsageStore, PostgresLoginStore, PostgresAdministrationStore):
    async def add_user(self, user: User, *, email_key: str, password_hash: str) -> bool:
        # No RETURNING: it would require that the conflicting row is visible to this user.
        added = await self._connection.execute(
            insert(users)
            .values(
                user_id=user.id,
                email=user.email,
                email_key=email_key,
                is_admin=user.is_admin,
                created_at=user.created_at,
            )
            .on_conflict_do_nothing(index_elements=["email_key"])
        )
        if added.rowcount == 0:
            return False
        await self._connection.execute(insert(credentials).values(user_id=user.id, password_hash=password_hash))
        await self._add_personal_organisation(user)
        return True

    async def _add_personal_organisation(self, user: User) -> None:
        personal = {"org_id": user.subject.organisation_id, "user_id": user.id, "created_at": user.created_at}
        await self._connection.execute(insert(organisations).values(personal))
        await self._connection.execute(insert(memberships).values(role=_OWNER, **personal))

    async def find_user(self, user_id: UserId) -> User | None:
        row = await _FIND_USER.row(self._connection, {"user_id": user_id})
        return user_of(row) if row else None

    async def find_credentials(self, email_key: str) -> Credentials | None:
        row = await _FIND_CREDENTIALS.row(self._connection, {"email_key": email_key})
        return Credentials(user_of(row), row["password_hash"], row["session_epoch"]) if row else None

    async def replace_password_hash(self, user_id: UserId, *, old: str, new: str) -> None:
        await self._connection.execute(
            update(credentials)
            .where(credentials.c.user_id == user_id, credentials.c.password_hash == old)
            .values(password_hash=new)
        )

    async def start_session(self, session: Session, token_hash: bytes, *, epoch: int) -> bool:
        values = {
            "session_id": session.id,
            "user_id": session.subject.user_id,
            "created_at": session.created_at,
            "expires_at": session.expires_at,
            "token_hash": token_hash,
            "epoch": epoch,
        }
        return await _START_SESSION.count(self._connection, values) == 1

    async def add_refresh_token(self, session: Session, token_hash: bytes, *, now: datetime) -> None:
        await self._connection.execute(
            insert(refresh_tokens).values(
                token_hash=token_hash,
                session_id=session.id,
                org_id=session.subject.organisation_id,
                user_id=session.subject.user_id,
                created_at=now,
                expires_at=session.expires_at,
            )
        )
        await self._connection.execute(
            update(sessions).where(sessions.c.session_id == session.id).values(expires_at=session.expires_at)
        )

    async def lock_refresh_token(self, token_hash: bytes) -> PresentedToken | None:
        # Two statements: the second takes its snapshot after the lock was acquired, so it sees what the previous holder
        # wrote.
        family = select(refresh_tokens.c.session_id).where(refresh_tokens.c.token_hash == token_hash)
        await self._connection.execute(
            select(sessions.c.session_id).where(sessions.c.session_id == family.scalar_subquery()).with_for_update()
        )
        statement = (
            select(
                *_USER_COLUMNS,
                sessions.c.session_id,
                sessions.c.created_at.label("session_created_at"),
                refresh_tokens.c.expires_at,
                refresh_tokens.c.used_at,
                refresh_tokens.c.successor_salt,
                sessions.c.ended_at,
            )
            .select_from(refresh_tokens)
            .join(sessions, sessions.c.session_id == refresh_tokens.c.session_id)
            .join(users, users.c.user_id == sessions.c.user_id)
            .where(refresh_tokens.c.token_hash == token_hash)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            return None
        return PresentedToken(
            user=_user(row),
            session_id=SessionId(row.session_id),
            session_created_at=row.session_created_at,
            expires_at=row.expires_at,
            used_at=row.used_at,
            successor_salt=row.successor_salt,
            is_session_ended=row.ended_at is not None,
        )

    async def use_refresh_token(self, token_hash: bytes, *, successor_salt: bytes, now: datetime) -> None:
        await self._connection.execute(
            update(refresh_tokens)
            .where(refresh_tokens.c.token_hash == token_hash)
            .values(used_at=now, successor_salt=successor_salt)
        )

    async def end_session(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        ended = await self._connection.execute(
            update(sessions)
            .where(sessions.c.session_id == session_id, sessions.c.user_id == user_id, sessions.c.ended_at.is_(None))
            .values(ended_at=now)
        )
        return ended.rowcount == 1

    async def add_revocation(self, subject: Subject, revocation: Revocation) -> None:
        await self._connection.execute(
            insert(revocations)
            .values(
                session_id=revocation.session_id,
                org_id=subject.organisation_id,
                user_id=subject.user_id,
                expires_at=revocation.expires_at,
            )
            .on_conflict_do_nothing(index_elements=["session_id"])
        )

    async def list_revocations(self, cursor: str | None, *, now: datetime, limit: int) -> RevocationPage:
        at = RevocationCursor.parse(cursor)
        at = at.within((await self._connection.execute(_CURRENT_SNAPSHOT)).scalar_one())
        bounds = {"seen": at.seen, "target": at.target, "after_xid": at.after_xid, "after_id": at.after_id}
        statement = await self._connection.execute(_REVOCATIONS, {"now": now, "limit": limit + 1, **bounds})
        rows = statement.all()
        page = tuple(Revocation(SessionId(row.session_id), row.expires_at) for row in rows[:limit])
        has_more = len(rows) > limit
        following = at.after(rows[limit - 1].xid, rows[limit - 1].session_id) if has_more else at.finished()
        return RevocationPage(page, str(following), has_more)

    async def find_override(self, user_id: UserId) -> EntitlementOverride | None:
        table = entitlement_overrides
        statement = select(table.c.models, table.c.tools, table.c.context_tokens, table.c.monthly_tokens).where(
            table.c.user_id == user_id
        )
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            return None
        return EntitlementOverride(
            models=None if row.models is None else tuple(row.models),
            tools=None if row.tools is None else tuple(row.tools),
            context_tokens=row.context_tokens,
            monthly_tokens=row.monthly_tokens,
        )

    async def prune(self, *, sessions_before: datetime, revocations_before: datetime, limit: int) -> int:
        is_over = or_(sessions.c.expires_at < sessions_before, sessions.c.ended_at < sessions_before)
        # Tokens first: deleting a session cascades to its remaining tokens, and a long session has thousands.
        of_ended = exists().where(
            sessions.c.session_id == refresh_tokens.c.session_id, sessions.c.ended_at < sessions_before
        )
        tokens = await self._prune(refresh_tokens, or_(refresh_tokens.c.expires_at < sessions_before, of_ended), limit)
        has_tokens = exists().where(refresh_tokens.c.session_id == sessions.c.session_id)
        ended = await self._prune(sessions, is_over & ~has_tokens, limit)
        return tokens + ended + await self._prune(revocations, revocations.c.expires_at < revocations_before, limit)

    async def _prune(self, table: Table, condition: ColumnElement[bool], limit: int) -> int:
        # SKIP LOCKED: replicas prune concurrently, and none waits for a rotation in progress. A CTE is executed once; a
        # subquery in IN may be executed once per row, and then exceed its limit.
        (key,) = table.primary_key.columns
        locked = select(key).where(condition).limit(limit).with_for_update(skip_locked=True, of=table)
        expired = locked.cte("expired").prefix_with("MATERIALIZED", dialect="postgresql")
        result = await self._connection.execute(delete(table).where(key == expired.c[key.name]))
        return result.rowcount


def _user(row: Row[Any]) -> User:
    return User(UserId(row.user_id), row.email, row.created_at, is_admin=row.is_admin, disabled_at=row.disabled_at)
