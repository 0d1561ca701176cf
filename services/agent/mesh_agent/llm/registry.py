"""The model registry: which models there are, in which order they are tried, what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh_common.errors import InvalidInput, PermissionDenied

from mesh_agent.domain import Entitlements, Usage


@dataclass(frozen=True, slots=True)
class Model:
    """Prices are US dollars a million tokens, which is micro-dollars a token."""

    name: str
    provider_model: str
    context_tokens: int
    max_output_tokens: int
    capabilities: frozenset[str]
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    base_url: str
    api_key: str = field(repr=False)

    def usage(self, input_tokens: int, output_tokens: int) -> Usage:
        cost = input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok
        return Usage(input_tokens, output_tokens, round(cost))

    @property
    def input_budget_tokens(self) -> int:
        """What may be sent to it, so that an answer still fits."""
        return self.context_tokens - min(self.max_output_tokens, self.context_tokens // 2)


class ModelRegistry:
    def __init__(self, models: Sequence[Model]) -> None:
        self._models = tuple(models)

    def allowed(self, entitlements: Entitlements) -> tuple[Model, ...]:
        return tuple(model for model in self._models if entitlements.allows_model(model.name))

    def order_for(self, requested: str | None, entitlements: Entitlements) -> tuple[Model, ...]:
        """Models to try, in order: the one asked for, then the registry's.

        Raises InvalidInput for a model that is not there and PermissionDenied for one the user may not use.
        """
        allowed = self.allowed(entitlements)
        if requested is None:
            if not allowed:
                raise PermissionDenied("Your account may not use any model.", reason="NO_MODEL_ALLOWED")
            return allowed
        if requested not in {model.name for model in self._models}:
            raise InvalidInput.of_field("model", "is not a model of this service; GET /api/v1/models lists them")
        first = [model for model in allowed if model.name == requested]
        if not first:
            raise PermissionDenied("Your account may not use this model.", reason="MODEL_NOT_ALLOWED")
        return (*first, *(model for model in allowed if model.name != requested))
