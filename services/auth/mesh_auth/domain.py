"""Accounts, sessions, entitlements and usage, and their rules."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

from mesh_common.ids import OrganisationId, RunId, UserId
from mesh_common.subject import ADMIN, Subject

SessionId = NewType("SessionId", UUID)

# A revocation outlives the last access token by this much: verifiers allow 5 s of leeway, and the nodes' clocks differ.
REVOCATION_MARGIN: Final = timedelta(seconds=60)
# Longer than a client waits for an answer before it repeats the call, and than two tabs differ. A thief who has the old
# token gets the same successor in this time; the first of the two who falls 20 s behind reveals the theft.
REPEAT_WINDOW: Final = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An address as its owner writes it, and the key that is equal for all spellings of the address.

    `former_key` is the key that release 0.1.0 would have stored; None if it refused the address.
    """

    written: str
    key: str
    former_key: str | None = None


@dataclass(frozen=True, slots=True)
class LoginName:
    """What a person typed to say who they are.

    `keys` are those that the account can have, the most exact first; empty for a text that is no address. `canonical`
    is the same for all spellings.
    """

    keys: tuple[str, ...]
    canonical: str


@dataclass(frozen=True, slots=True)
class LoginFailures:
    """Consecutive failures, the time of the last one, and when the logins in progress began.

    Without a failure, `last_at` is when the last login in progress began.
    """

    count: int
    last_at: datetime
    pending: tuple[datetime, ...] = ()

    def begun(self, now: datetime) -> "LoginFailures":
        return LoginFailures(self.count, self.last_at if self.count else now, (*self.pending, now))

    def ended(self, begun_at: datetime) -> "LoginFailures":
        """Without a login that began then. One that was given up is no longer among them."""
        at = self.pending.index(begun_at) if begun_at in self.pending else len(self.pending)
        return replace(self, pending=self.pending[:at] + self.pending[at + 1 :])

    def failed(self, now: datetime) -> "LoginFailures":
        return replace(self, count=self.count + 1, last_at=now)


@dataclass(frozen=True, slots=True)
class User:
    id: UserId
    email: str
    created_at: datetime
    is_admin: bool = False
    disabled_at: datetime | None = None
    """None while the user may log in."""

    @property
    def subject(self) -> Subject:
        """The subject of this user's access tokens: the user in their personal organisation."""
        scopes = frozenset(("user", ADMIN) if self.is_admin else ("user",))
        return Subject(OrganisationId(self.id), self.id, scopes=scopes)


@dataclass(frozen=True, slots=True)
class Credentials:
    """`session_epoch` rises when all sessions of the user end: a login that checked older credentials starts none."""

    user: User
    password_hash: str
    session_epoch: int = 0


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """`needs_rehash`: the hash has an older algorithm or weaker parameters than new hashes."""

    is_match: bool
    needs_rehash: bool = False


@dataclass(frozen=True, slots=True)
class LoginPolicy:
    """Free failures for one account: from one client address, and from all unknown addresses together.

    The second number must be larger, or one stranger could use it up and lock the owner out.
    """

    per_address: int
    per_account: int


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """`session` is the maximum age of a session, however often it is refreshed."""

    access_token: timedelta
    refresh_token: timedelta
    session: timedelta

    def revoked_until(self, now: datetime) -> datetime:
        """When the last access token that was issued before `now` has expired everywhere."""
        return now + self.access_token + REVOCATION_MARGIN


@dataclass(frozen=True, slots=True)
class Session:
    """One login. Its refresh tokens form one family and are revoked together."""

    id: SessionId
    subject: Subject
    created_at: datetime
    expires_at: datetime
    """When its newest refresh token expires."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    access_token: str
    expires_in: timedelta
    refresh_token: str


class Verdict(StrEnum):
    """What to do with a presented refresh token."""

    ROTATE = "rotated"
    REPEAT = "repeated"
    REUSED = "reused"
    TOO_OLD = "too-old"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """A stored refresh token that a client presented, with its session's owner and state.

    `successor_salt` and the token give its successor (`tokens.successor_of`). None if the token is unused, or if
    release 0.1.0 rotated it.
    """

    user: User
    session_id: SessionId
    session_created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    successor_salt: bytes | None
    is_session_ended: bool

    def verdict(self, now: datetime, *, max_age: timedelta) -> Verdict:
        """After the repeat window, a token used again is held by two parties, and auth cannot tell which one is the
        thief (RFC 9700, 4.14.2)."""
        if self.is_session_ended or self.user.disabled_at:
            return Verdict.REFUSED
        if self.used_at is not None:
            is_repeat = self.successor_salt is not None and now < self.used_at + REPEAT_WINDOW
            return Verdict.REPEAT if is_repeat else Verdict.REUSED
        if now >= self.session_created_at + max_age:
            return Verdict.TOO_OLD
        return Verdict.ROTATE if now < self.expires_at else Verdict.REFUSED


@dataclass(frozen=True, slots=True)
class Revocation:
    session_id: SessionId
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class UserPage:
    """Newest first. `next_after` is None on the last page."""

    users: tuple[User, ...]
    next_after: UserId | None


@dataclass(frozen=True, slots=True)
class RevocationPage:
    """Oldest first. `next_cursor` continues after the page. If `has_more`, the next page can be fetched at once."""

    revocations: tuple[Revocation, ...]
    next_cursor: str
    has_more: bool


# In the override of a user: an empty list allows everything there, as in release 0.1.0, which may read the same row.
NO_NAMES: Final = ("",)


@dataclass(frozen=True, slots=True)
class Allowances:
    """What a user may use. None means everything or no limit; an empty list allows nothing."""

    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    context_tokens: int | None = None
    monthly_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class EntitlementOverride:
    """Allowances that differ for one user. None keeps the default, no names allow all, and `NO_NAMES` none."""

    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    context_tokens: int | None = None
    monthly_tokens: int | None = None

    def applied_to(self, defaults: Allowances) -> Allowances:
        return Allowances(
            models=defaults.models if self.models is None else _all_or_names(self.models),
            tools=defaults.tools if self.tools is None else _all_or_names(self.tools),
            context_tokens=defaults.context_tokens if self.context_tokens is None else self.context_tokens,
            monthly_tokens=defaults.monthly_tokens if self.monthly_tokens is None else self.monthly_tokens,
        )


def _all_or_names(names: tuple[str, ...]) -> tuple[str, ...] | None:
    return None if not names else () if names == NO_NAMES else names


@dataclass(frozen=True, slots=True)
class Entitlements:
    allowances: Allowances
    used_tokens: int
    """Input and output tokens of the current month."""


@dataclass(frozen=True, slots=True)
class RunUsage:
    """The cost of one run."""

    run_id: RunId
    model: str
    input_tokens: int
    output_tokens: int
    cost_micro_usd: int
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """An entry of a batch: a run's usage, and the subject for whom it is booked."""

    subject: Subject
    usage: RunUsage


@dataclass(frozen=True, slots=True)
class ModelUsage:
    model: str
    runs: int
    input_tokens: int
    output_tokens: int
    cost_micro_usd: int


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, moment: datetime) -> "Month":
        utc = moment.astimezone(UTC)
        return cls(utc.year, utc.month)

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant of the next month."""
        return Month(self.year + self.month // 12, self.month % 12 + 1).start

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"
