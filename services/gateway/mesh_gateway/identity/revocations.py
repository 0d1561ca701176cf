"""Sessions that were logged out: their access tokens are rejected before they expire.

Each replica polls auth every two seconds, so a logout reaches every replica within five, and ends the session's open
streams there. While auth is unavailable, known revocations stay in force. A replica applies its own logouts at once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import structlog
from mesh_common.clock import Clock
from mesh_common.errors import MeshError

log = structlog.get_logger()

_PERIOD_S: Final = 2.0
# 100,000 logouts in a token's lifetime of 15 minutes are 111 per second: far above what one auth replica serves.
_MAX_SESSIONS: Final = 100_000


@dataclass(frozen=True, slots=True)
class RevokedSession:
    session_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RevocationPage:
    sessions: tuple[RevokedSession, ...]
    next_cursor: str
    has_more: bool


class RevocationSource(Protocol):
    async def revocations(self, cursor: str | None) -> RevocationPage: ...


class Revocations:
    def __init__(self, source: RevocationSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._cursor: str | None = None
        self._expiry_of: OrderedDict[str, datetime] = OrderedDict()
        self._is_behind = False
        self._on_revoked: Callable[[str], None] = lambda _: None

    def when_revoked(self, call: Callable[[str], None]) -> None:
        """Sets `call`, which gets the id of each session that is revoked from now on."""
        self._on_revoked = call

    def revoke(self, session_id: str, expires_at: datetime) -> None:
        self._expiry_of[session_id] = expires_at
        self._on_revoked(session_id)
        if len(self._expiry_of) > _MAX_SESSIONS:
            self._forget_expired()
        if len(self._expiry_of) > _MAX_SESSIONS:
            self._expiry_of.popitem(last=False)
            log.warning("revocations.overflowed", limit=_MAX_SESSIONS)

    def is_revoked(self, session_id: str) -> bool:
        return session_id in self._expiry_of

    async def watch(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            await self.poll()

    async def poll(self) -> None:
        """Fetches all new revocations; if auth is unavailable, known ones stay in force."""
        try:
            await self._take_all()
        except MeshError as error:
            self._report(is_behind=True, reason=error.reason)
        else:
            self._report(is_behind=False, reason=None)

    async def _take_all(self) -> None:
        has_more = True
        while has_more:
            page = await self._source.revocations(self._cursor)
            for session in page.sessions:
                self.revoke(session.session_id, session.expires_at)
            self._cursor = page.next_cursor
            has_more = page.has_more
        self._forget_expired()

    def _forget_expired(self) -> None:
        now = self._clock.now()
        for session_id in [one for one, expires_at in self._expiry_of.items() if expires_at <= now]:
            del self._expiry_of[session_id]

    def _report(self, *, is_behind: bool, reason: str | None) -> None:
        if is_behind != self._is_behind:
            log.warning("revocations.changed", is_behind=is_behind, reason=reason)
        self._is_behind = is_behind
