"""Resolves the plan of one run from an assistant and a user's entitlements."""

from dataclasses import replace

from mesh_common.errors import InvalidInput, PermissionDenied

from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.plans.plan import PlannedTeam, RunPlan


def resolved(
    assistant: RunPlan, requested: str | None, entitlements: Entitlements, response_format_json: str | None = None
) -> RunPlan:
    """The plan of a new run: the parts of the assistant that the user may use, the requested model first.

    `response_format_json`, if given, replaces the assistant's.

    The user's own history budget replaces the assistant's.

    Raises InvalidInput if the assistant does not have the model, or cannot answer in this form, PermissionDenied if the
    user may not use the model.
    """
    if requested is not None and all(model.name != requested for model in assistant.models):
        raise InvalidInput.of_field("model", "is not a model of this service; GET /api/v1/models lists them")
    if response_format_json:
        assistant = _with_response_format(assistant, response_format_json)
    plan = narrowed(assistant, requested, entitlements)
    own_budget = entitlements.context_tokens
    return replace(
        plan,
        models=tuple(sorted(plan.models, key=lambda model: model.name != requested)),
        history_tokens=assistant.history_tokens if own_budget is None else own_budget,
    )


def _with_response_format(plan: RunPlan, response_format_json: str) -> RunPlan:
    if plan.graph or plan.team:
        raise InvalidInput.of_field("response_format", "is only for assistants of the kind `single`")
    return replace(plan, parameters=replace(plan.parameters, response_format_json=response_format_json))


def narrowed(plan: RunPlan, requested: str | None, entitlements: Entitlements) -> RunPlan:
    """The plan without what the entitlements do not allow; nothing is ever added.

    Raises PermissionDenied if the user may not use the requested model, or no model at all.
    """
    models = tuple(model for model in plan.models if entitlements.allows_model(model.name))
    if requested is None and not models:
        raise PermissionDenied("Your account may not use any model.", reason="NO_MODEL_ALLOWED")
    if requested is not None and all(model.name != requested for model in models):
        raise PermissionDenied("Your account may not use this model.", reason="MODEL_NOT_ALLOWED")
    tools = tuple(tool for tool in plan.tools if entitlements.allows_tool(tool.name))
    bound = entitlements.context_tokens
    history_tokens = plan.history_tokens if bound is None else min(bound, plan.history_tokens)
    team = _narrowed_team(plan.team, entitlements) if plan.team else None
    if (models, tools, history_tokens) == (plan.models, plan.tools, plan.history_tokens) and team is plan.team:
        # Nearly always the case; a copy costs as much as all of the above.
        return plan
    return replace(plan, models=models, tools=tools, history_tokens=history_tokens, team=team)


def _narrowed_team(team: PlannedTeam, entitlements: Entitlements) -> PlannedTeam:
    """Without the members of whose models the user may use none."""
    members = tuple(
        replace(member, plan=narrowed(member.plan, None, entitlements))
        for member in team.members
        if any(entitlements.allows_model(model.name) for model in member.plan.models)
    )
    return team if members == team.members else replace(team, members=members)
