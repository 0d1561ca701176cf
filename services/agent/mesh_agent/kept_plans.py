"""The plans of runs: resolved when a run starts, stored once per content, and read by later attempts.

A run's row holds only the hash of its plan. Most runs share a handful of plans, which a process stores once and then
caches, so neither a start nor a claim runs a statement for them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import structlog
from mesh_common.clock import Clock

from mesh_agent.assistants.model import RunnableAssistant
from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.plans.plan import DEFAULT_ASSISTANT, RunPlan
from mesh_agent.plans.resolve import narrowed, resolved
from mesh_agent.plans.stored import StoredPlan, loaded, stored
from mesh_agent.store import Database, plans

log = structlog.get_logger()

# There is one per combination of requested model and entitlements. Each takes about 20 kB of memory.
_MAX_PLANS: Final = 500


@dataclass(slots=True)
class _KnownPlan:
    """`kept_until_s`: monotonic time until which the plan's row is guaranteed to exist."""

    plan: RunPlan
    kept_until_s: float = 0.0


class KeptPlans:
    """One per process."""

    def __init__(self, database: Database, default: Callable[[], RunPlan], keep_s: float, clock: Clock) -> None:
        """`default`: what the settings describe at the moment. `keep_s`: how long after its last use a plan's row is
        kept if no unended run refers to it."""
        self.current_default = default
        self._database = database
        self._keep_s = keep_s
        self._clock = clock
        self._known: OrderedDict[bytes, _KnownPlan] = OrderedDict()
        self._resolved = lru_cache(_MAX_PLANS)(self._resolve)
        self._keep_lock = asyncio.Lock()

    @property
    def default(self) -> RunPlan:
        return self.current_default()

    def resolve(
        self,
        requested: str | None,
        entitlements: Entitlements,
        assistant: RunnableAssistant,
        response_format_json: str | None = None,
    ) -> StoredPlan:
        """The plan of a new run. Raises InvalidInput or PermissionDenied (see `resolved`)."""
        # The used part of a budget does not belong to the plan.
        return self._resolved(assistant, requested, response_format_json, *_of(entitlements))

    async def keep(self, plan: StoredPlan) -> None:
        """Ensures that the plan is stored, and stays stored for any run that starts now."""
        known = self._know(plan.hash, plan.plan)
        if self._is_kept(known):
            return
        async with self._keep_lock:
            if self._is_kept(known):
                return
            now_s = self._clock.monotonic_s()
            async with self._database.as_worker() as connection:
                await plans.keep_plan(connection, plan.hash, plan.data)
            # A run that starts at the last moment has the other half of the time to be stored.
            known.kept_until_s = now_s + self._keep_s / 2

    async def of(self, claim: Claim, known: Entitlements | None, default: Entitlements) -> RunPlan:
        """The claimed run's plan, narrowed to the user's current entitlements. Raises PermissionDenied, Unavailable.

        If these are not known, because auth is unavailable, the plan counts as it is: it has been narrowed to those
        that the user had when the run started. A takeover must not fail because auth is down too.

        A run of the previous release has no plan. It gets one here, which its later attempts use too, from the
        `default` if nothing is known.
        """
        plan = await self._stored(claim.plan_hash) if claim.plan_hash else None
        if plan is None:
            bounds = known or default
            return narrowed(await self._adopted(claim, bounds), claim.model, bounds)
        return narrowed(plan, claim.model, known) if known else plan

    async def find(self, plan_hash: bytes) -> RunPlan | None:
        """A stored plan as it is."""
        return await self._stored(plan_hash)

    async def _stored(self, plan_hash: bytes) -> RunPlan | None:
        if known := self._known.get(plan_hash):
            self._known.move_to_end(plan_hash)
            return known.plan
        async with self._database.as_worker() as connection:
            data = await plans.plan_of(connection, plan_hash)
        if data is None:
            log.error("plan.missing", hash=plan_hash.hex())
            return None
        return self._know(plan_hash, loaded(data)).plan

    async def _adopted(self, claim: Claim, entitlements: Entitlements) -> RunPlan:
        assistant = RunnableAssistant(DEFAULT_ASSISTANT, "", self.default)
        plan = self._resolve(assistant, claim.model, None, *_of(entitlements))
        await self.keep(plan)
        async with self._database.as_worker() as connection:
            await plans.set_plan(connection, claim, plan.hash)
        return plan.plan

    def _resolve(
        self,
        assistant: RunnableAssistant,
        requested: str | None,
        response_format_json: str | None,
        models: tuple[str, ...] | None,
        tools: tuple[str, ...] | None,
        context_tokens: int | None,
    ) -> StoredPlan:
        bounds = Entitlements(models, tools, context_tokens)
        return stored(resolved(assistant.plan, requested, bounds, response_format_json))

    def _know(self, plan_hash: bytes, plan: RunPlan) -> _KnownPlan:
        known = self._known.setdefault(plan_hash, _KnownPlan(plan))
        self._known.move_to_end(plan_hash)
        if len(self._known) > _MAX_PLANS:
            self._known.popitem(last=False)
        return known

    def _is_kept(self, known: _KnownPlan) -> bool:
        return self._clock.monotonic_s() < known.kept_until_s


type _Known = tuple[tuple[str, ...] | None, tuple[str, ...] | None, int | None]


def _of(entitlements: Entitlements) -> _Known:
    """What a plan depends on."""
    return entitlements.models, entitlements.tools, entitlements.context_tokens
