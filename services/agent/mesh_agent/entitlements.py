"""What a subject may use: from auth at most once a minute, stale for an hour while auth is away, then the default."""

from collections import OrderedDict

import structlog
from mesh_common.clock import Clock
from mesh_common.errors import DeadlineExceeded, MeshError, Unavailable
from mesh_common.subject import Subject

from mesh_agent.domain import Entitlements
from mesh_agent.ports import EntitlementsSource

log = structlog.get_logger()

_FRESH_S = 60.0
_STALE_S = 3_600.0
_MAX_SUBJECTS = 10_000
# While auth is away nobody waits for it again so soon.
_ASK_AGAIN_S = 5.0


class CachedEntitlements:
    def __init__(self, source: EntitlementsSource, default: Entitlements, clock: Clock) -> None:
        self._source = source
        self._default = default
        self._clock = clock
        self._cached: OrderedDict[Subject, tuple[Entitlements, float]] = OrderedDict()
        self._ask_again_at_s = 0.0

    async def of(self, subject: Subject) -> Entitlements:
        """Never fails for auth's sake: a run goes on with what was known, or with the default."""
        # They are the organisation's and the user's: what differs in scopes alone shares them.
        subject = subject.without_grants()
        now_s = self._clock.monotonic_s()
        entitlements, asked_at_s = self._cached.get(subject, (None, 0.0))
        if entitlements is not None and now_s - asked_at_s < _FRESH_S:
            return entitlements
        known = entitlements if entitlements is not None and now_s - asked_at_s < _STALE_S else None
        if now_s < self._ask_again_at_s:
            return known or self._default
        try:
            fresh = await self._source.get_entitlements(subject)
        except MeshError as error:
            # A refusal of one user must not keep others from being asked for.
            if isinstance(error, Unavailable | DeadlineExceeded):
                self._ask_again_at_s = now_s + _ASK_AGAIN_S
            log.warning("entitlements.stale", is_default=known is None, reason=error.reason)
            return known or self._default
        self._keep(subject, fresh, now_s)
        return fresh

    def _keep(self, subject: Subject, entitlements: Entitlements, now_s: float) -> None:
        self._cached[subject] = (entitlements, now_s)
        self._cached.move_to_end(subject)
        if len(self._cached) > _MAX_SUBJECTS:
            self._cached.popitem(last=False)
