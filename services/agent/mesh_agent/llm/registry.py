"""The model registry: which models there are, where they are reached, what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mesh_common.errors import Unavailable
from pydantic import SecretStr

from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.runs import Usage
from mesh_agent.llm.presets import PRESETS, provider_at, quirks_of
from mesh_agent.llm.quirks import Quirks
from mesh_agent.model_settings import ModelSettings, Provider
from mesh_agent.plans.plan import PlannedModel, input_budget_tokens


@dataclass(frozen=True, slots=True)
class Model:
    """Prices are in US dollars per million tokens, which equals micro-dollars per token."""

    name: str
    provider_model: str
    context_tokens: int
    max_output_tokens: int
    capabilities: frozenset[str]
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    base_url: str
    api_key: str = field(repr=False)
    first_token_timeout_s: float | None = None
    """How long it may take until its first token; 20 s if absent, or the timeout for silence if that is shorter."""
    provider: Provider = "other"
    quirks: Quirks = PRESETS["other"].quirks

    def usage(self, input_tokens: int, output_tokens: int) -> Usage:
        cost = input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok
        return Usage(input_tokens, output_tokens, round(cost))

    @property
    def input_budget_tokens(self) -> int:
        return input_budget_tokens(self.context_tokens, self.max_output_tokens)

    def planned(self) -> PlannedModel:
        """As plans of runs that begin now hold it."""
        return PlannedModel(self.name, self.context_tokens, self.max_output_tokens)


def model_of(entry: ModelSettings, base_url: str, api_key: SecretStr | None) -> Model:
    """The model of an entry. Address and key are for an entry that has none."""
    key = entry.api_key or api_key
    base_url = entry.base_url or base_url
    provider = entry.provider or provider_at(base_url)
    return Model(
        name=entry.name,
        provider_model=entry.provider_model,
        context_tokens=entry.context_tokens,
        max_output_tokens=entry.max_output_tokens,
        capabilities=frozenset(entry.capabilities),
        input_usd_per_mtok=entry.input_usd_per_mtok,
        output_usd_per_mtok=entry.output_usd_per_mtok,
        base_url=base_url,
        api_key=key.get_secret_value() if key else "",
        first_token_timeout_s=entry.first_token_timeout_s,
        provider=provider,
        quirks=quirks_of(provider, entry.quirks.given()),
    )


class ModelRegistry:
    def __init__(self, models: Sequence[Model]) -> None:
        self._models = tuple(models)
        self._by_name = {model.name: model for model in models}

    def allowed(self, entitlements: Entitlements) -> tuple[Model, ...]:
        return tuple(model for model in self._models if entitlements.allows_model(model.name))

    def of_plan(self, planned: Sequence[PlannedModel]) -> tuple[Model, ...]:
        """The models of a plan that are here, in its order and with its limits.

        Raises Unavailable when none of them is here any more.
        """
        models = tuple(_limited(self._by_name[model.name], model) for model in planned if model.name in self._by_name)
        if not models:
            raise Unavailable(
                "None of the models that this run was started with is available any more. Start another run.",
                reason="MODELS_REMOVED",
            )
        return models


def _limited(model: Model, planned: PlannedModel) -> Model:
    """What a server cannot read it cannot read, whatever the plan says; the rest is as it was when the run began."""
    context_tokens = min(planned.context_tokens, model.context_tokens)
    if (context_tokens, planned.max_output_tokens) == (model.context_tokens, model.max_output_tokens):
        return model
    return replace(model, context_tokens=context_tokens, max_output_tokens=planned.max_output_tokens)
