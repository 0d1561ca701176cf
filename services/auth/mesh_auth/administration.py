"""The use cases of administrators, who let people in and out while registration is closed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from mesh_common.clock import Clock
from mesh_common.errors import InvalidInput, NotFound, PermissionDenied, PreconditionFailed
from mesh_common.ids import UserId
from mesh_common.subject import ADMIN, Subject

from mesh_auth.domain import EmailAddress, Lifetimes, User, UserPage
from mesh_auth.metrics import REVOCATIONS
from mesh_auth.passwords.rules import fault_of
from mesh_auth.ports import AuthDatabase, AuthStore, PasswordHasher
from mesh_auth.usecases import Register, require_user

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Accounts:
    """Reads and changes any account. The caller's right must have been checked: by `Administration`, or because an
    operator runs a command inside the mesh."""

    database: AuthDatabase
    hasher: PasswordHasher
    clock: Clock
    lifetimes: Lifetimes

    async def create(self, email: EmailAddress, password: str, *, is_admin: bool = False) -> User:
        register = Register(self.database, self.hasher, self.clock, is_open=False)
        return await register.create(email, password, is_admin=is_admin)

    async def read(self, user_id: UserId) -> User:
        async with self.database.as_worker() as store:
            return await require_user(store, user_id)

    async def find(self, email_keys: Sequence[str]) -> User:
        """The account with one of the keys of an address. Raises NotFound."""
        async with self.database.as_worker() as store:
            for key in email_keys:
                if found := await store.find_credentials(key):
                    return found.user
        raise NotFound("There is no such user.")

    async def list(self, *, after: UserId | None, limit: int) -> UserPage:
        async with self.database.as_worker() as store:
            users = await store.list_users(after=after, limit=limit + 1)
        page = tuple(users[:limit])
        return UserPage(page, page[-1].id if len(users) > limit else None)

    async def set_password(self, user_id: UserId, password: str) -> None:
        """Replaces the password and ends all sessions, because the old password may have leaked."""
        user = await self.read(user_id)
        if fault := fault_of(password, email=user.email):
            raise InvalidInput.of_field("password", fault)
        password_hash = await self.hasher.hash(password)
        now = self.clock.now()
        async with self.database.as_worker() as store:
            ended = await self._end_sessions(store, user, now)
            await store.set_password_hash(user_id, password_hash)
        REVOCATIONS.labels("password").inc(ended)

    async def disable(self, user_id: UserId) -> User:
        """Refuses logins and ends all sessions. Their access tokens are rejected everywhere within 5 s."""
        now = self.clock.now()
        async with self.database.as_worker() as store:
            user = await require_user(store, user_id)
            if user.is_admin and await store.lock_enabled_admins() == {user_id}:
                raise PreconditionFailed("The last administrator cannot be disabled.", reason="LAST_ADMIN")
            if user.disabled_at:
                return user
            ended = await self._end_sessions(store, user, now)
            await store.set_disabled(user_id, now)
        REVOCATIONS.labels("disabled").inc(ended)
        return replace(user, disabled_at=now)

    async def enable(self, user_id: UserId) -> User:
        """Lets the user log in again. Sessions that disabling ended stay ended."""
        async with self.database.as_worker() as store:
            user = await require_user(store, user_id)
            await store.set_disabled(user_id, None)
        return replace(user, disabled_at=None)

    async def _end_sessions(self, store: AuthStore, user: User, now: datetime) -> int:
        return await store.end_all_sessions(user.subject, now=now, revoked_until=self.lifetimes.revoked_until(now))


@dataclass(frozen=True, slots=True)
class Administration:
    """`Accounts` for administrators: checks the caller, and writes one audit line for each change.

    Does not rely on the gateway's check. The token's scope may be 15 minutes old, so the account decides too.
    """

    accounts: Accounts

    async def create(self, caller: Subject, email: EmailAddress, password: str) -> User:
        await self._require_admin(caller)
        user = await self.accounts.create(email, password)
        _audit("admin.user_created", caller, user.id)
        return user

    async def read(self, caller: Subject, user_id: UserId) -> User:
        await self._require_admin(caller)
        return await self.accounts.read(user_id)

    async def list(self, caller: Subject, *, after: UserId | None, limit: int) -> UserPage:
        await self._require_admin(caller)
        return await self.accounts.list(after=after, limit=limit)

    async def set_password(self, caller: Subject, user_id: UserId, password: str) -> None:
        await self._require_admin(caller)
        await self.accounts.set_password(user_id, password)
        _audit("admin.password_set", caller, user_id)

    async def disable(self, caller: Subject, user_id: UserId) -> User:
        await self._require_admin(caller)
        if user_id == caller.user_id:
            raise PreconditionFailed("You cannot disable your own account.", reason="OWN_ACCOUNT")
        user = await self.accounts.disable(user_id)
        _audit("admin.user_disabled", caller, user_id)
        return user

    async def enable(self, caller: Subject, user_id: UserId) -> User:
        await self._require_admin(caller)
        user = await self.accounts.enable(user_id)
        _audit("admin.user_enabled", caller, user_id)
        return user

    async def _require_admin(self, caller: Subject) -> None:
        if ADMIN in caller.scopes:
            async with self.accounts.database.as_subject(caller) as store:
                user = await store.find_user(caller.user_id)
            if user and user.is_admin and user.disabled_at is None:
                return
        log.warning("admin.refused", user_id=str(caller.user_id))
        raise PermissionDenied("Only administrators may do this.", reason="ADMIN_REQUIRED")


def _audit(event: str, caller: Subject, user_id: UserId) -> None:
    log.info(event, admin_id=str(caller.user_id), user_id=str(user_id))
