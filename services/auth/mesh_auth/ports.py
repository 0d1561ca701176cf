"""What the use cases need: the database, a password hasher and a signer of access tokens."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from mesh_common.ids import UserId
from mesh_common.subject import Subject

from mesh_auth.domain import (
    Credentials,
    EntitlementOverride,
    LoginFailures,
    ModelUsage,
    Month,
    PasswordCheck,
    PresentedToken,
    Revocation,
    RevocationPage,
    RunUsage,
    Session,
    SessionId,
    UsageEntry,
    User,
)


class AuthStore(Protocol):
    """The reads and writes of one transaction."""

    async def add_user(self, user: User, *, email_key: str, password_hash: str) -> bool:
        """Adds the user with their personal organisation. False, and nothing is stored, if the address is taken."""
        ...

    async def find_user(self, user_id: UserId) -> User | None: ...

    async def find_credentials(self, email_key: str) -> Credentials | None: ...

    async def lock_login(self, account_key: bytes) -> None:
        """Waits for other transactions that locked the same key, and keeps them out until this one ends."""
        ...

    async def find_login_failures(self, keys: Sequence[bytes]) -> dict[bytes, LoginFailures]: ...

    async def put_login_failures(self, failures: Mapping[bytes, LoginFailures]) -> None:
        """Replaces what is stored under these keys; deletes it if there are no failures and no logins in progress.

        Call `lock_login` first.
        """
        ...

    async def is_login_address(self, user_id: UserId, hashes: Sequence[bytes], *, since: datetime) -> bool:
        """Whether the user logged in from an address with one of these hashes."""
        ...

    async def remember_login_address(self, subject: Subject, address_hash: bytes, *, now: datetime, keep: int) -> None:
        """Adds an address from which the user logged in. Only the newest `keep` remain."""
        ...

    async def prune_logins(self, *, failed_before: datetime, seen_before: datetime, limit: int) -> int:
        """Deletes old failures and addresses, at most `limit` of each. Returns the number deleted."""
        ...

    async def replace_password_hash(self, user_id: UserId, *, old: str, new: str) -> None:
        """Replaces the hash, unless it is no longer `old`."""
        ...

    async def start_session(self, session: Session, token_hash: bytes, *, epoch: int) -> bool:
        """Adds a session with the first token of its family. False, and nothing is stored, if the user is disabled or
        all of their sessions ended after `epoch` was read."""
        ...

    async def add_refresh_token(self, session: Session, token_hash: bytes, *, now: datetime) -> None:
        """Adds the next token of a session's family. Session and token now expire at `session.expires_at`."""
        ...

    async def lock_refresh_token(self, token_hash: bytes) -> PresentedToken | None:
        """Finds a token and locks its family until the transaction ends, so that rotations run one after the other."""
        ...

    async def use_refresh_token(self, token_hash: bytes, *, successor_salt: bytes, now: datetime) -> None: ...

    async def end_session(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        """False if this user has no such session or it has already ended."""
        ...

    async def end_all_sessions(self, subject: Subject, *, now: datetime, revoked_until: datetime) -> int:
        """Ends and revokes the user's sessions, and prevents logins in progress from starting one. Returns how many
        ended."""
        ...

    async def list_users(self, *, after: UserId | None, limit: int) -> Sequence[User]:
        """Newest first, beginning after the user `after`."""
        ...

    async def lock_enabled_admins(self) -> set[UserId]:
        """Locks them until the transaction ends, so that two transactions cannot disable the last two."""
        ...

    async def set_disabled(self, user_id: UserId, disabled_at: datetime | None) -> None: ...

    async def set_password_hash(self, user_id: UserId, password_hash: str) -> None: ...

    async def add_revocation(self, subject: Subject, revocation: Revocation) -> None: ...

    async def list_revocations(self, cursor: str | None, *, now: datetime, limit: int) -> RevocationPage:
        """Unexpired revocations that became visible since the cursor. No order of commits makes it miss one.

        Raises InvalidInput for a cursor that it did not return.
        """
        ...

    async def find_override(self, user_id: UserId) -> EntitlementOverride | None: ...

    async def add_usage(self, subject: Subject, usage: RunUsage) -> bool:
        """False if there is no such user. Changes nothing if the run was recorded before."""
        ...

    async def add_usage_batch(self, entries: Sequence[UsageEntry]) -> set[UserId]:
        """Adds the entries of existing users and returns the users who do not exist. Of entries with the same run id,
        only the first is added.

        Overlapping batches wait for each other but never deadlock.
        """
        ...

    async def sum_usage(self, user_id: UserId, month: Month) -> Sequence[ModelUsage]:
        """One entry per model, ordered by name."""
        ...

    async def prune(self, *, sessions_before: datetime, revocations_before: datetime, limit: int) -> int:
        """Deletes tokens and sessions that expired or ended before the first time, and revocations that expired before
        the second. At most about `limit` per table. Returns the number deleted."""
        ...


class AuthDatabase(Protocol):
    """Opens transactions. Each commits at the end of its block and rolls back if the block raises."""

    def as_subject(self, subject: Subject) -> AbstractAsyncContextManager[AuthStore]:
        """A transaction that sees and writes only the rows of this user in this organisation."""
        ...

    def as_worker(self) -> AbstractAsyncContextManager[AuthStore]:
        """A transaction across users: for login, refresh, revocations, batches of usage and retention."""
        ...


class PasswordHasher(Protocol):
    """Hashes passwords: slow on purpose, outside the event loop, with a bounded queue.

    Raises Unavailable if too many passwords wait, and DeadlineExceeded if the caller's deadline has passed.
    """

    def require_room(self) -> None:
        """Raises what a hash started now would raise. Call it before other work that would then be wasted."""
        ...

    async def hash(self, password: str) -> str: ...

    async def verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        """None never matches, and takes as long to check as a hash."""
        ...


class AccessTokenSigner(Protocol):
    def sign(self, user: User, session_id: SessionId, *, now: datetime) -> str: ...

    def jwks_json(self) -> str:
        """The public keys that verify access tokens, as a JWKS document (RFC 7517)."""
        ...
