"""The port `AuthDatabase` in memory; tests/contract/auth compares it with the real one."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from mesh_auth.domain import (
    Credentials,
    EntitlementOverride,
    LoginFailures,
    ModelUsage,
    Month,
    PresentedToken,
    Revocation,
    RevocationPage,
    RunUsage,
    Session,
    SessionId,
    UsageEntry,
    User,
)
from mesh_common.errors import InvalidInput
from mesh_common.ids import UserId
from mesh_common.subject import Subject


@dataclass
class StoredSession:
    session: Session
    ended_at: datetime | None = None


@dataclass
class StoredToken:
    session_id: SessionId
    expires_at: datetime
    used_at: datetime | None = None
    successor_salt: bytes | None = None


@dataclass
class Tables:
    users: dict[UserId, User] = field(default_factory=dict)
    user_of_key: dict[str, UserId] = field(default_factory=dict)
    hashes: dict[UserId, str] = field(default_factory=dict)
    epochs: dict[UserId, int] = field(default_factory=dict)
    sessions: dict[SessionId, StoredSession] = field(default_factory=dict)
    tokens: dict[bytes, StoredToken] = field(default_factory=dict)
    revocations: list[tuple[UserId, Revocation]] = field(default_factory=list)
    login_failures: dict[bytes, LoginFailures] = field(default_factory=dict)
    login_addresses: dict[UserId, dict[bytes, datetime]] = field(default_factory=dict)
    overrides: dict[UserId, EntitlementOverride] = field(default_factory=dict)
    usage: dict[UUID, tuple[Subject, RunUsage]] = field(default_factory=dict)


class InMemoryAuthDatabase:
    """Transactions are serialized and counted; one that fails leaves no changes."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.transactions = 0
        self._lock = asyncio.Lock()

    def as_subject(self, subject: Subject) -> AbstractAsyncContextManager["InMemoryAuthStore"]:
        return self._transaction(subject)

    def as_worker(self) -> AbstractAsyncContextManager["InMemoryAuthStore"]:
        return self._transaction(None)

    @asynccontextmanager
    async def _transaction(self, subject: Subject | None) -> AsyncIterator["InMemoryAuthStore"]:
        self.transactions += 1
        async with self._lock:
            tables = deepcopy(self.tables)
            yield InMemoryAuthStore(tables, subject)
            self.tables = tables


class InMemoryAuthStore:
    def __init__(self, tables: Tables, subject: Subject | None) -> None:
        self._tables = tables
        self._subject = subject

    async def add_user(self, user: User, *, email_key: str, password_hash: str) -> bool:
        if email_key in self._tables.user_of_key:
            return False
        self._tables.users[user.id] = user
        self._tables.user_of_key[email_key] = user.id
        self._tables.hashes[user.id] = password_hash
        return True

    async def find_user(self, user_id: UserId) -> User | None:
        return self._tables.users.get(user_id) if self._sees(user_id) else None

    async def find_credentials(self, email_key: str) -> Credentials | None:
        user_id = self._tables.user_of_key.get(email_key)
        if user_id is None or not self._sees(user_id):
            return None
        return Credentials(
            self._tables.users[user_id], self._tables.hashes[user_id], self._tables.epochs.get(user_id, 0)
        )

    async def lock_login(self, account_key: bytes) -> None:
        """Transactions are serialized anyway."""

    async def find_login_failures(self, keys: Sequence[bytes]) -> dict[bytes, LoginFailures]:
        return {key: found for key in keys if (found := self._tables.login_failures.get(key))}

    async def put_login_failures(self, failures: Mapping[bytes, LoginFailures]) -> None:
        for key, one in failures.items():
            self._tables.login_failures.pop(key, None)
            if one.count or one.pending:
                self._tables.login_failures[key] = one

    async def is_login_address(self, user_id: UserId, hashes: Sequence[bytes], *, since: datetime) -> bool:
        known = self._tables.login_addresses.get(user_id, {})
        return any(known[one] > since for one in hashes if one in known)

    async def remember_login_address(self, subject: Subject, address_hash: bytes, *, now: datetime, keep: int) -> None:
        known = self._tables.login_addresses.setdefault(subject.user_id, {})
        known[address_hash] = max(now, known.get(address_hash, now))
        newest = sorted(known, key=lambda one: known[one], reverse=True)
        for one in newest[keep:]:
            del known[one]

    async def prune_logins(self, *, failed_before: datetime, seen_before: datetime, limit: int) -> int:
        failures = self._tables.login_failures
        old = [key for key, one in failures.items() if one.last_at < failed_before][:limit]
        for key in old:
            del failures[key]
        known = self._tables.login_addresses
        seen = [(user, one) for user, all_of in known.items() for one, at in all_of.items() if at < seen_before][:limit]
        for user, one in seen:
            del known[user][one]
        return len(old) + len(seen)

    async def replace_password_hash(self, user_id: UserId, *, old: str, new: str) -> None:
        if self._sees(user_id) and self._tables.hashes.get(user_id) == old:
            self._tables.hashes[user_id] = new

    async def start_session(self, session: Session, token_hash: bytes, *, epoch: int) -> bool:
        user_id = session.subject.user_id
        if self._tables.users[user_id].disabled_at or self._tables.epochs.get(user_id, 0) != epoch:
            return False
        self._tables.sessions[session.id] = StoredSession(session)
        self._tables.tokens[token_hash] = StoredToken(session.id, session.expires_at)
        return True

    async def add_refresh_token(self, session: Session, token_hash: bytes, *, now: datetime) -> None:
        del now
        self._tables.tokens[token_hash] = StoredToken(session.id, session.expires_at)
        stored = self._tables.sessions[session.id]
        stored.session = replace(stored.session, expires_at=session.expires_at)

    async def lock_refresh_token(self, token_hash: bytes) -> PresentedToken | None:
        token = self._tables.tokens.get(token_hash)
        if token is None:
            return None
        stored = self._tables.sessions[token.session_id]
        if not self._sees(stored.session.subject.user_id):
            return None
        return PresentedToken(
            user=self._tables.users[stored.session.subject.user_id],
            session_id=token.session_id,
            session_created_at=stored.session.created_at,
            expires_at=token.expires_at,
            used_at=token.used_at,
            successor_salt=token.successor_salt,
            is_session_ended=stored.ended_at is not None,
        )

    async def use_refresh_token(self, token_hash: bytes, *, successor_salt: bytes, now: datetime) -> None:
        token = self._tables.tokens[token_hash]
        token.used_at, token.successor_salt = now, successor_salt

    async def end_session(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        stored = self._tables.sessions.get(session_id)
        if stored is None or stored.session.subject.user_id != user_id or not self._sees(user_id) or stored.ended_at:
            return False
        stored.ended_at = now
        return True

    async def end_all_sessions(self, subject: Subject, *, now: datetime, revoked_until: datetime) -> int:
        self._tables.epochs[subject.user_id] = self._tables.epochs.get(subject.user_id, 0) + 1
        mine = [key for key, one in self._tables.sessions.items() if one.session.subject.user_id == subject.user_id]
        ended = [key for key in mine if await self.end_session(subject.user_id, key, now=now)]
        for session_id in ended:
            await self.add_revocation(subject, Revocation(session_id, revoked_until))
        return len(ended)

    async def list_users(self, *, after: UserId | None, limit: int) -> Sequence[User]:
        newest_first = sorted(self._tables.users, reverse=True)
        return [self._tables.users[key] for key in newest_first if after is None or key < after][:limit]

    async def lock_enabled_admins(self) -> set[UserId]:
        return {key for key, user in self._tables.users.items() if user.is_admin and not user.disabled_at}

    async def set_disabled(self, user_id: UserId, disabled_at: datetime | None) -> None:
        self._tables.users[user_id] = replace(self._tables.users[user_id], disabled_at=disabled_at)

    async def set_password_hash(self, user_id: UserId, password_hash: str) -> None:
        self._tables.hashes[user_id] = password_hash

    async def add_revocation(self, subject: Subject, revocation: Revocation) -> None:
        if all(known.session_id != revocation.session_id for _, known in self._tables.revocations):
            self._tables.revocations.append((subject.user_id, revocation))

    async def list_revocations(self, cursor: str | None, *, now: datetime, limit: int) -> RevocationPage:
        if cursor is not None and not cursor.isdecimal():
            raise InvalidInput.of_field("cursor", "is not the next_cursor of an earlier response")
        start = int(cursor or 0)
        following = list(enumerate(self._tables.revocations))[start:]
        valid = [
            (index + 1, entry) for index, (user, entry) in following if entry.expires_at > now and self._sees(user)
        ]
        page = valid[:limit]
        has_more = len(valid) > limit
        end = page[-1][0] if has_more else len(self._tables.revocations)
        return RevocationPage(tuple(entry for _, entry in page), str(end), has_more)

    async def find_override(self, user_id: UserId) -> EntitlementOverride | None:
        return self._tables.overrides.get(user_id) if self._sees(user_id) else None

    async def add_usage(self, subject: Subject, usage: RunUsage) -> bool:
        if await self.find_user(subject.user_id) is None:
            return False
        self._tables.usage.setdefault(usage.run_id, (subject.without_grants(), usage))
        return True

    async def add_usage_batch(self, entries: Sequence[UsageEntry]) -> set[UserId]:
        return {entry.subject.user_id for entry in entries if not await self.add_usage(entry.subject, entry.usage)}

    async def sum_usage(self, user_id: UserId, month: Month) -> Sequence[ModelUsage]:
        sums: dict[str, ModelUsage] = {}
        for owner, usage in self._tables.usage.values():
            if owner.user_id == user_id and self._sees_usage(owner) and month.start <= usage.ended_at < month.end:
                so_far = sums.get(usage.model, ModelUsage(usage.model, 0, 0, 0, 0))
                sums[usage.model] = ModelUsage(
                    usage.model,
                    so_far.runs + 1,
                    so_far.input_tokens + usage.input_tokens,
                    so_far.output_tokens + usage.output_tokens,
                    so_far.cost_micro_usd + usage.cost_micro_usd,
                )
        return [sums[model] for model in sorted(sums)]

    async def prune(self, *, sessions_before: datetime, revocations_before: datetime, limit: int) -> int:
        tables = self._tables
        over = {
            session_id
            for session_id, stored in tables.sessions.items()
            if stored.ended_at is not None and stored.ended_at < sessions_before
        }
        tokens = [
            key
            for key, token in tables.tokens.items()
            if token.expires_at < sessions_before or token.session_id in over
        ][:limit]
        for key in tokens:
            del tables.tokens[key]
        used = {token.session_id for token in tables.tokens.values()}
        sessions = [
            key
            for key, stored in tables.sessions.items()
            if key not in used and (key in over or stored.session.expires_at < sessions_before)
        ][:limit]
        for session_id in sessions:
            del tables.sessions[session_id]
        revocations = [entry for entry in tables.revocations if entry[1].expires_at < revocations_before][:limit]
        tables.revocations = [entry for entry in tables.revocations if entry not in revocations]
        return len(tokens) + len(sessions) + len(revocations)

    def _sees(self, user_id: UserId) -> bool:
        """An account is its user's, whatever the organisation."""
        return self._subject is None or self._subject.user_id == user_id

    def _sees_usage(self, owner: Subject) -> bool:
        return self._subject is None or self._subject.without_grants() == owner
