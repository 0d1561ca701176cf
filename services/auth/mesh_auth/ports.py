"""What the use cases need from the outside."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from mesh_common.ids import UserId
from mesh_common.subject import Subject

from mesh_auth.domain import (
    Credentials,
    EntitlementOverride,
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
        """Adds the user with their personal organisation. False, and nothing stored, when the address is taken."""
        ...

    async def find_user(self, user_id: UserId) -> User | None: ...

    async def find_credentials(self, email_key: str) -> Credentials | None: ...

    async def replace_password_hash(self, user_id: UserId, *, old: str, new: str) -> None:
        """Changes the hash unless somebody changed it first."""
        ...

    async def start_session(self, session: Session, token_hash: bytes) -> None:
        """Adds a session with the first token of its family."""
        ...

    async def add_refresh_token(self, session: Session, token_hash: bytes, *, now: datetime) -> None:
        """Adds the next token of a session's family; both now end at `session.expires_at`."""
        ...

    async def lock_refresh_token(self, token_hash: bytes) -> PresentedToken | None:
        """Finds a token and holds its whole family until the transaction ends, so that rotations come one by one."""
        ...

    async def use_refresh_token(self, token_hash: bytes, *, now: datetime) -> None: ...

    async def end_session(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        """False when this user has no such session, or it ended before."""
        ...

    async def add_revocation(self, subject: Subject, revocation: Revocation) -> None: ...

    async def list_revocations(self, cursor: str | None, *, now: datetime, limit: int) -> RevocationPage:
        """What became visible since the cursor and has not expired. No commit order can make it miss one.

        Raises InvalidInput for a cursor that it did not give.
        """
        ...

    async def find_override(self, user_id: UserId) -> EntitlementOverride | None: ...

    async def add_usage(self, subject: Subject, usage: RunUsage) -> bool:
        """False when there is no such user. Changes nothing when the run was recorded before."""
        ...

    async def add_usage_batch(self, entries: Sequence[UsageEntry]) -> set[UserId]:
        """The users of the entries who do not exist; the rest is added, the first of those with one run id.

        Batches that overlap wait for each other and never in a circle.
        """
        ...

    async def sum_usage(self, user_id: UserId, month: Month) -> Sequence[ModelUsage]:
        """One entry a model, by name."""
        ...

    async def prune(self, *, expired_before: datetime, ended_before: datetime, limit: int) -> int:
        """Deletes what is of no use any more, about `limit` rows a table at most; says how many went."""
        ...


class AuthDatabase(Protocol):
    """Opens transactions; each commits when its block ends well and rolls back when it does not."""

    def as_subject(self, subject: Subject) -> AbstractAsyncContextManager[AuthStore]:
        """One that sees and writes rows of this user in this organisation alone."""
        ...

    def as_worker(self) -> AbstractAsyncContextManager[AuthStore]:
        """One across users: login, refresh, revocations, batches of usage, retention."""
        ...


class PasswordHasher(Protocol):
    """Slow on purpose, off the event loop and bounded.

    Raises Unavailable when too many wait, DeadlineExceeded when the caller's time is up.
    """

    def require_room(self) -> None:
        """Raises as a hash would that began now; asked before other work is done for nothing."""
        ...

    async def hash(self, password: str) -> str: ...

    async def verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        """Against None, which never matches, it takes as long as against a hash."""
        ...


class AccessTokenSigner(Protocol):
    def sign(self, user: User, session_id: SessionId, *, now: datetime) -> str: ...

    def jwks_json(self) -> str:
        """The public keys that verify access tokens, as a JWKS document (RFC 7517)."""
        ...
