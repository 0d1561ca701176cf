"""Caches entitlements: fresh for a minute, stale for an hour while auth is unavailable, then the default.

The default is strict for models and tools, because an attacker may be what keeps auth from answering. Token budgets are
not: an outage of auth must not end every chat.
"""

from collections import OrderedDict

import structlog
from mesh_common.clock import Clock
from mesh_common.errors import DeadlineExceeded, MeshError, NotFound, PermissionDenied, Unavailable
from mesh_common.subject import Subject

from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.ports import EntitlementsSource

log = structlog.get_logger()

_FRESH_S = 60.0
_STALE_S = 3_600.0
_MAX_SUBJECTS = 10_000
# While auth is unavailable, requests do not wait for it again for this long.
_RETRY_AUTH_AFTER_S = 5.0


class CachedEntitlements:
    def __init__(self, source: EntitlementsSource, default: Entitlements, clock: Clock) -> None:
        self._source = source
        self.default = default
        self._clock = clock
        self._cached: OrderedDict[Subject, tuple[Entitlements, float]] = OrderedDict()
        self._retry_auth_at_s = 0.0

    async def of(self, subject: Subject) -> Entitlements:
        """Auth's answer, at most an hour old, or the default. Raises PermissionDenied if auth has no such user."""
        return await self.known(subject) or self.default

    async def known(self, subject: Subject) -> Entitlements | None:
        """As `of`, but None instead of the default."""
        # Entitlements belong to the organisation and the user, so subjects that differ only in scopes share them.
        subject = subject.without_grants()
        now_s = self._clock.monotonic_s()
        entitlements, asked_at_s = self._cached.get(subject, (None, 0.0))
        if entitlements is not None and now_s - asked_at_s < _FRESH_S:
            return entitlements
        known = entitlements if entitlements is not None and now_s - asked_at_s < _STALE_S else None
        if now_s < self._retry_auth_at_s:
            return known
        try:
            fresh = await self._source.get_entitlements(subject)
        except NotFound as error:
            self._cached.pop(subject, None)
            raise PermissionDenied("Your account does not exist any more.", reason="ACCOUNT_UNKNOWN") from error
        except MeshError as error:
            # An error that concerns one user must not stop requests for other users.
            if isinstance(error, Unavailable | DeadlineExceeded):
                self._retry_auth_at_s = now_s + _RETRY_AUTH_AFTER_S
            log.warning("entitlements.stale", is_unknown=known is None, reason=error.reason)
            return known
        self._keep(subject, fresh, now_s)
        return fresh

    def _keep(self, subject: Subject, entitlements: Entitlements, now_s: float) -> None:
        self._cached[subject] = (entitlements, now_s)
        self._cached.move_to_end(subject)
        if len(self._cached) > _MAX_SUBJECTS:
            self._cached.popitem(last=False)
