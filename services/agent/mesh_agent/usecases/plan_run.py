"""Resolves the plan of a new run, and rejects runs that their user may not start."""

from dataclasses import dataclass
from functools import lru_cache

from mesh_common.errors import InvalidInput, MeshError, PermissionDenied, QuotaExceeded, Unavailable
from mesh_common.subject import Subject

from mesh_agent.assistants.model import RunnableAssistant
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.runs import RunInput
from mesh_agent.entitlements import CachedEntitlements
from mesh_agent.graph.window import user_tokens
from mesh_agent.kept_plans import KeptPlans
from mesh_agent.known_assistants import KnownAssistants
from mesh_agent.plans.plan import Instructions
from mesh_agent.plans.stored import StoredPlan
from mesh_agent.store.starts import PlanOfRun

# A used-up budget stays used up until the month ends. An hour keeps clients from retrying all the time.
_QUOTA_RETRY_AFTER_S = 3_600.0
# As long as a replica does not ask auth again (`CachedEntitlements`).
_ENTITLEMENTS_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class PlannedRun:
    plan: StoredPlan
    of_run: PlanOfRun


@dataclass(frozen=True, slots=True)
class PlanRun:
    entitlements: CachedEntitlements
    plans: KeptPlans
    assistants: KnownAssistants

    async def planned_or_error(
        self, subject: Subject, run: RunInput, entitlements: Entitlements
    ) -> PlannedRun | MeshError:
        """Resolves and stores the plan, or returns why the run would be rejected as a new one. Only the database knows
        whether it is new."""
        reference = run.assistant or (self.assistants.assistant_of(run.thread_id) if run.thread_id else None)
        try:
            assistant = await self.assistants.runnable(subject, reference)
            plan = self._checked_plan(run, entitlements, assistant)
        except MeshError as error:
            return error
        await self.plans.keep(plan)
        of_run = PlanOfRun(
            plan.hash, assistant.name, assistant.version, assistant.id, remembers=plan.plan.memory.remembers
        )
        return PlannedRun(plan, of_run)

    def _checked_plan(self, run: RunInput, entitlements: Entitlements, assistant: RunnableAssistant) -> StoredPlan:
        """The plan of a new run, or the error that rejects it. A repeated run has passed these checks before."""
        plan = self._resolved(run, entitlements, assistant)
        if entitlements.is_used_up:
            raise used_up()
        budget_tokens = plan.plan.input_budget_tokens - _prompt_tokens(plan.plan.instructions)
        if user_tokens(run.message) > budget_tokens:
            raise InvalidInput.of_field("message", f"is longer than the model can read ({budget_tokens} tokens)")
        return plan

    def _resolved(self, run: RunInput, entitlements: Entitlements, assistant: RunnableAssistant) -> StoredPlan:
        try:
            return self.plans.resolve(run.model, entitlements, assistant, run.response_format_json)
        except PermissionDenied as error:
            if entitlements is not self.entitlements.default:
                raise
            # The default is not auth's answer: in a moment it may be another one.
            raise Unavailable(
                "Your permissions cannot be checked right now. Try again.",
                reason="ENTITLEMENTS_UNKNOWN",
                retry_after_s=_ENTITLEMENTS_RETRY_AFTER_S,
            ) from error


def used_up() -> QuotaExceeded:
    return QuotaExceeded("Your token budget for this month is used up.", retry_after_s=_QUOTA_RETRY_AFTER_S)


@lru_cache(maxsize=100)
def _prompt_tokens(instructions: Instructions) -> int:
    """Tokens of the system prompt without memories."""
    return user_tokens(instructions.prompt(()))
