"""The use cases of auth: accounts, sessions, revocations, entitlements and usage."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from mesh_common.clock import Clock
from mesh_common.errors import AlreadyExists, DeadlineExceeded, NotFound, PermissionDenied, Unauthenticated, Unavailable
from mesh_common.ids import UserId, new_id
from mesh_common.subject import Subject

from mesh_auth.domain import (
    Allowances,
    Credentials,
    EmailAddress,
    EntitlementOverride,
    Entitlements,
    Lifetimes,
    LoginName,
    ModelUsage,
    Month,
    PresentedToken,
    Revocation,
    RevocationPage,
    RunUsage,
    Session,
    SessionId,
    TokenPair,
    UsageEntry,
    User,
    Verdict,
)
from mesh_auth.logins.guard import Admission, LoginGuard
from mesh_auth.logins.queue import LoginQueue
from mesh_auth.metrics import LOGINS, REFRESHES, REGISTRATIONS, REVOCATIONS
from mesh_auth.ports import AccessTokenSigner, AuthDatabase, AuthStore, PasswordHasher
from mesh_auth.tokens import new_refresh_token, new_successor_salt, refresh_token_hash, successor_of

log = structlog.get_logger()

REVOCATIONS_A_PAGE: Final = 1_000
_NO_SUCH_USER: Final = "There is no such user."


@dataclass(frozen=True, slots=True)
class Register:
    database: AuthDatabase
    hasher: PasswordHasher
    clock: Clock
    is_open: bool

    async def __call__(self, email: EmailAddress, password: str) -> User:
        if not self.is_open:
            REGISTRATIONS.labels("closed").inc()
            raise PermissionDenied("Registration is closed. Ask an administrator.", reason="REGISTRATION_CLOSED")
        return await self.create(email, password, is_admin=False)

    async def create(self, email: EmailAddress, password: str, *, is_admin: bool) -> User:
        """Creates an account, even if registration is closed. Takes equally long if the address is taken."""
        password_hash = await self.hasher.hash(password)
        user = User(UserId(new_id()), email.written, self.clock.now(), is_admin=is_admin)
        async with self.database.as_subject(user.subject) as store:
            is_added = await store.add_user(user, email_key=email.key, password_hash=password_hash)
        REGISTRATIONS.labels("made" if is_added else "taken").inc()
        if not is_added:
            raise AlreadyExists("This e-mail address cannot be used.")
        log.info("user.registered", is_admin=is_admin)
        return user


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Issues a session's next pair of tokens."""

    signer: AccessTokenSigner
    lifetimes: Lifetimes

    def session(self, session_id: SessionId, user: User, *, created_at: datetime, now: datetime) -> Session:
        expires_at = min(now + self.lifetimes.refresh_token, created_at + self.lifetimes.session)
        return Session(session_id, user.subject, created_at, expires_at)

    def pair(self, user: User, session_id: SessionId, refresh_token: str, *, now: datetime) -> TokenPair:
        access_token = self.signer.sign(user, session_id, now=now)
        return TokenPair(access_token, self.lifetimes.access_token, refresh_token)

    def revocation(self, session_id: SessionId, *, now: datetime) -> Revocation:
        """A revocation that lasts until the session's last access token has expired everywhere."""
        return Revocation(session_id, self.lifetimes.revoked_until(now))


@dataclass(frozen=True, slots=True)
class Login:
    database: AuthDatabase
    hasher: PasswordHasher
    clock: Clock
    issuer: TokenIssuer
    guard: LoginGuard
    queue: LoginQueue

    async def __call__(self, name: LoginName, password: str, client_address: str | None = None) -> TokenPair:
        """Takes the same time whether the name has an account or not. Raises RateLimited, before anything is hashed."""
        # In a burst of logins, rejected ones must not take CPU from the accepted ones.
        self.hasher.require_room()
        found, admission = await self.queue.admitted(lambda: self._admit(name, client_address))
        try:
            check = await self.hasher.verify(password, found.password_hash if found else None)
        except (Unavailable, DeadlineExceeded, asyncio.CancelledError):
            # Nobody learns whether the password is right. Shielded, because the caller may have left.
            await asyncio.shield(self._end(admission, self.guard.take_back))
            raise
        if found is None or not check.is_match:
            await asyncio.shield(self._end(admission, self.guard.fail))
            LOGINS.labels("refused").inc()
            raise _wrong_credentials()
        async with self.database.as_worker() as store:
            await self.guard.succeed(store, admission, found.user.subject)
        if found.user.disabled_at:
            LOGINS.labels("disabled").inc()
            raise Unauthenticated("This account is disabled. Ask an administrator.", reason="USER_DISABLED")
        better_hash = await self._better_hash(password) if check.needs_rehash else None
        tokens = await self._start_session(found, better_hash)
        LOGINS.labels("succeeded").inc()
        return tokens

    async def _admit(self, name: LoginName, client_address: str | None) -> tuple[Credentials | None, Admission]:
        async with self.database.as_worker() as store:
            found = await _find_credentials(store, name)
            return found, await self.guard.admit(store, name, found.user if found else None, client_address)

    async def _end(self, admission: Admission, end: Callable[[AuthStore, Admission], Awaitable[None]]) -> None:
        async with self.database.as_worker() as store:
            await end(store, admission)

    async def _start_session(self, found: Credentials, better_hash: str | None) -> TokenPair:
        now = self.clock.now()
        user = found.user
        session = self.issuer.session(SessionId(new_id()), user, created_at=now, now=now)
        refresh_token = new_refresh_token()
        async with self.database.as_subject(user.subject) as store:
            is_started = await store.start_session(
                session, refresh_token_hash(refresh_token), epoch=found.session_epoch
            )
            if is_started and better_hash:
                await store.replace_password_hash(user.id, old=found.password_hash, new=better_hash)
        if not is_started:
            # Another password was set, or the user was disabled, while this one was checked.
            raise _wrong_credentials()
        return self.issuer.pair(user, session.id, refresh_token, now=now)

    async def _better_hash(self, password: str) -> str | None:
        """None if the hasher has no capacity now. The next login tries again; this one must not fail because of it."""
        try:
            return await self.hasher.hash(password)
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("password.not_rehashed", reason=error.reason)
            return None


async def _find_credentials(store: AuthStore, name: LoginName) -> Credentials | None:
    """Asks for every key, so that the time does not tell which one an account has."""
    found = [await store.find_credentials(key) for key in name.keys]
    return next((credentials for credentials in found if credentials), None)


def _wrong_credentials() -> Unauthenticated:
    return Unauthenticated("E-mail or password is wrong.", reason="WRONG_CREDENTIALS")


@dataclass(frozen=True, slots=True)
class Refresh:
    database: AuthDatabase
    clock: Clock
    issuer: TokenIssuer

    async def __call__(self, refresh_token: str) -> TokenPair:
        """Exchanges a refresh token for the next pair.

        A token that was used less than 20 s ago gives the same successor. One used earlier ends its session for all
        holders of its tokens.
        """
        now = self.clock.now()
        salt = new_successor_salt()
        async with self.database.as_worker() as store:
            presented = await store.lock_refresh_token(refresh_token_hash(refresh_token))
            verdict = self._verdict(presented, now)
            if presented and verdict is Verdict.ROTATE:
                await self._rotate(store, presented, refresh_token, salt, now)
            elif presented and verdict is Verdict.REUSED:
                await _end_session(
                    store, presented.user.subject, self.issuer.revocation(presented.session_id, now=now), now
                )
        # Raise after the commit, so that the reuse is stored.
        REFRESHES.labels(verdict.value).inc()
        if verdict is Verdict.REUSED:
            log.warning("refresh_token.reused")
            REVOCATIONS.labels("reuse").inc()
        if verdict is Verdict.TOO_OLD:
            raise Unauthenticated("The session has reached its maximum age. Log in again.", reason="SESSION_TOO_OLD")
        if presented is None or verdict not in (Verdict.ROTATE, Verdict.REPEAT):
            raise Unauthenticated("The session has ended. Log in again.", reason="INVALID_REFRESH_TOKEN")
        following = successor_of(refresh_token, presented.successor_salt or salt)
        return self.issuer.pair(presented.user, presented.session_id, following, now=now)

    def _verdict(self, presented: PresentedToken | None, now: datetime) -> Verdict:
        if presented is None:
            return Verdict.REFUSED
        return presented.verdict(now, max_age=self.issuer.lifetimes.session)

    async def _rotate(
        self, store: AuthStore, presented: PresentedToken, token: str, salt: bytes, now: datetime
    ) -> None:
        session = self.issuer.session(
            presented.session_id, presented.user, created_at=presented.session_created_at, now=now
        )
        await store.use_refresh_token(refresh_token_hash(token), successor_salt=salt, now=now)
        await store.add_refresh_token(session, refresh_token_hash(successor_of(token, salt)), now=now)


@dataclass(frozen=True, slots=True)
class Logout:
    database: AuthDatabase
    clock: Clock
    issuer: TokenIssuer

    async def __call__(self, subject: Subject, session_id: SessionId) -> None:
        """Ends the user's session. Does nothing if it has ended, is unknown or belongs to another user."""
        now = self.clock.now()
        async with self.database.as_subject(subject) as store:
            is_ended = await _end_session(store, subject, self.issuer.revocation(session_id, now=now), now)
        if is_ended:
            REVOCATIONS.labels("logout").inc()


async def _end_session(store: AuthStore, subject: Subject, revocation: Revocation, now: datetime) -> bool:
    """Ends the family of refresh tokens and revokes the access tokens. False if the session has already ended."""
    if not await store.end_session(subject.user_id, revocation.session_id, now=now):
        return False
    await store.add_revocation(subject, revocation)
    return True


@dataclass(frozen=True, slots=True)
class ListRevocations:
    database: AuthDatabase
    clock: Clock
    page_size: int = REVOCATIONS_A_PAGE

    async def __call__(self, cursor: str | None) -> RevocationPage:
        async with self.database.as_worker() as store:
            return await store.list_revocations(cursor, now=self.clock.now(), limit=self.page_size)


@dataclass(frozen=True, slots=True)
class GetUser:
    database: AuthDatabase

    async def __call__(self, subject: Subject) -> User:
        async with self.database.as_subject(subject) as store:
            return await require_user(store, subject.user_id)


@dataclass(frozen=True, slots=True)
class GetEntitlements:
    database: AuthDatabase
    clock: Clock
    defaults: Allowances

    async def __call__(self, subject: Subject) -> Entitlements:
        async with self.database.as_subject(subject) as store:
            await require_user(store, subject.user_id)
            override = await store.find_override(subject.user_id) or EntitlementOverride()
            month = await store.sum_usage(subject.user_id, Month.of(self.clock.now()))
        used_tokens = sum(usage.input_tokens + usage.output_tokens for usage in month)
        return Entitlements(override.applied_to(self.defaults), used_tokens)


@dataclass(frozen=True, slots=True)
class RecordUsage:
    database: AuthDatabase

    async def __call__(self, subject: Subject, usage: RunUsage) -> None:
        async with self.database.as_subject(subject) as store:
            if not await store.add_usage(subject, usage):
                raise NotFound(_NO_SUCH_USER)


@dataclass(frozen=True, slots=True)
class RecordUsageBatch:
    database: AuthDatabase

    async def __call__(self, entries: Sequence[UsageEntry]) -> set[UserId]:
        """Books the entries in one transaction. Returns the users who do not exist."""
        async with self.database.as_worker() as store:
            return await store.add_usage_batch(entries)


@dataclass(frozen=True, slots=True)
class GetUsage:
    database: AuthDatabase
    clock: Clock

    async def __call__(self, subject: Subject, month: Month | None) -> tuple[Month, Sequence[ModelUsage]]:
        month = month or Month.of(self.clock.now())
        async with self.database.as_subject(subject) as store:
            return month, await store.sum_usage(subject.user_id, month)


async def require_user(store: AuthStore, user_id: UserId) -> User:
    user = await store.find_user(user_id)
    if user is None:
        raise NotFound(_NO_SUCH_USER)
    return user
