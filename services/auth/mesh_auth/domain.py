"""Accounts, sessions, entitlements and usage, and the rules that hold for them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

from mesh_common.ids import OrganisationId, RunId, UserId
from mesh_common.subject import Subject

SessionId = NewType("SessionId", UUID)

# A revocation outlives the last access token by this: verifiers allow 5 s of leeway, and clocks of nodes differ.
REVOCATION_MARGIN: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An address as its owner writes it, and the form by which two spellings are the same address."""

    written: str
    key: str


@dataclass(frozen=True, slots=True)
class User:
    id: UserId
    email: str
    created_at: datetime
    is_admin: bool = False

    @property
    def subject(self) -> Subject:
        """Whom this user's access tokens speak for: the user in their personal organisation."""
        scopes = frozenset(("user", "admin") if self.is_admin else ("user",))
        return Subject(OrganisationId(self.id), self.id, scopes=scopes)


@dataclass(frozen=True, slots=True)
class Credentials:
    user: User
    password_hash: str


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """`needs_rehash`: the hash is of an older algorithm or weaker parameters than new ones get."""

    is_match: bool
    needs_rehash: bool = False


@dataclass(frozen=True, slots=True)
class Lifetimes:
    access_token: timedelta
    refresh_token: timedelta


@dataclass(frozen=True, slots=True)
class Session:
    """One login. Its refresh tokens are one family: they live and die together."""

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
    """What is to be done with a refresh token that was presented."""

    ROTATE = "rotated"
    REUSED = "reused"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """A stored refresh token that somebody presents, with its session's owner and state."""

    user: User
    session_id: SessionId
    expires_at: datetime
    is_used: bool
    is_session_ended: bool

    def verdict(self, now: datetime) -> Verdict:
        """A token used twice means that two parties hold it, and nobody can tell which is the thief (RFC 9700, 4.14.2).

        There is no grace for two refreshes at once: a thief would have the same grace. A client that lost the
        answer logs in again.
        """
        if self.is_session_ended:
            return Verdict.REFUSED
        if self.is_used:
            return Verdict.REUSED
        return Verdict.ROTATE if now < self.expires_at else Verdict.REFUSED


@dataclass(frozen=True, slots=True)
class Revocation:
    session_id: SessionId
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RevocationPage:
    """Oldest first. `next_cursor` goes on after the page; with `has_more` there is more to fetch at once."""

    revocations: tuple[Revocation, ...]
    next_cursor: str
    has_more: bool


@dataclass(frozen=True, slots=True)
class Allowances:
    """What a user may use. Empty lists mean all, None means no bound."""

    models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    context_tokens: int | None = None
    monthly_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class EntitlementOverride:
    """What differs for one user; None keeps the default."""

    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    context_tokens: int | None = None
    monthly_tokens: int | None = None

    def applied_to(self, defaults: Allowances) -> Allowances:
        return Allowances(
            models=defaults.models if self.models is None else self.models,
            tools=defaults.tools if self.tools is None else self.tools,
            context_tokens=defaults.context_tokens if self.context_tokens is None else self.context_tokens,
            monthly_tokens=defaults.monthly_tokens if self.monthly_tokens is None else self.monthly_tokens,
        )


@dataclass(frozen=True, slots=True)
class Entitlements:
    allowances: Allowances
    used_tokens: int
    """Input and output tokens of the running month."""


@dataclass(frozen=True, slots=True)
class RunUsage:
    """What one run cost. The money is in micro-dollars."""

    run_id: RunId
    model: str
    input_tokens: int
    output_tokens: int
    cost_micro_usd: int
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """A run's usage, with the subject it is booked for: one of a batch."""

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
        """The first instant after it."""
        return Month(self.year + self.month // 12, self.month % 12 + 1).start

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"
