"""What a user may use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What a user may use. None means everything or no limit; an empty tuple allows nothing."""

    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    context_tokens: int | None = None
    monthly_tokens: int | None = None
    used_tokens: int = 0

    def allows_model(self, name: str) -> bool:
        return self.models is None or name in self.models

    def allows_tool(self, name: str) -> bool:
        return self.tools is None or name in self.tools

    @property
    def is_used_up(self) -> bool:
        return self.monthly_tokens is not None and self.used_tokens >= self.monthly_tokens
