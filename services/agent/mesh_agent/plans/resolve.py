"""From an assistant and a user's entitlements to the plan of one run."""

from dataclasses import replace

from mesh_common.errors import InvalidInput, PermissionDenied

from mesh_agent.domain import Entitlements
from mesh_agent.plans.plan import RunPlan


def resolved(assistant: RunPlan, requested: str | None, entitlements: Entitlements) -> RunPlan:
    """The plan of a new run: what of the assistant the user may use, the requested model first.

    The user's own history budget replaces the assistant's.

    Raises InvalidInput for a model the assistant does not have, PermissionDenied for one the user may not use.
    """
    if requested is not None and all(model.name != requested for model in assistant.models):
        raise InvalidInput.of_field("model", "is not a model of this service; GET /api/v1/models lists them")
    plan = narrowed(assistant, requested, entitlements)
    own_budget = entitlements.context_tokens
    return replace(
        plan,
        models=tuple(sorted(plan.models, key=lambda model: model.name != requested)),
        history_tokens=assistant.history_tokens if own_budget is None else own_budget,
    )


def narrowed(plan: RunPlan, requested: str | None, entitlements: Entitlements) -> RunPlan:
    """The plan without what the entitlements do not allow; never with more than it had.

    Raises PermissionDenied when the requested model, or any model, may not be used.
    """
    models = tuple(model for model in plan.models if entitlements.allows_model(model.name))
    if requested is None and not models:
        raise PermissionDenied("Your account may not use any model.", reason="NO_MODEL_ALLOWED")
    if requested is not None and all(model.name != requested for model in models):
        raise PermissionDenied("Your account may not use this model.", reason="MODEL_NOT_ALLOWED")
    tools = tuple(tool for tool in plan.tools if entitlements.allows_tool(tool.name))
    bound = entitlements.context_tokens
    history_tokens = plan.history_tokens if bound is None else min(bound, plan.history_tokens)
    if (models, tools, history_tokens) == (plan.models, plan.tools, plan.history_tokens):
        # Nearly always; a copy costs as much as all of the above.
        return plan
    return replace(plan, models=models, tools=tools, history_tokens=history_tokens)
