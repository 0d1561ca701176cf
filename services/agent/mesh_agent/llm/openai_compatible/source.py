"""Who wrote an answer. Its opaque data (reasoning, signatures of calls) goes back to nobody else."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# The version at the end of a model's name: a date, or a word for a channel.
_VERSION: Final = re.compile(
    r"(?:[-@:_](?:latest|preview|exp|beta|free|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{2}-[0-9]{4}|[0-9]{2}-[0-9]{2}|[0-9]{8}"
    r"|[0-9]{6}|[0-9]{4}))+$"
)


@dataclass(frozen=True, slots=True)
class Source:
    """`name` is what the release before this one stored and compares."""

    endpoint: str
    family: str
    name: str

    @classmethod
    def of(cls, provider: str, base_url: str, model: str) -> "Source":
        base_url = base_url.rstrip("/")
        return cls(f"{provider} {base_url}", family_of(model), f"{base_url} {model}")

    def signed(self, opaque: dict[str, Any]) -> dict[str, Any]:
        """The opaque data with its writer, as a message keeps it."""
        return {"source": self.name, "endpoint": self.endpoint, "family": self.family, **opaque}

    def wrote(self, opaque: Mapping[str, Any]) -> bool:
        if "endpoint" not in opaque:
            return opaque.get("source") == self.name
        return bool(opaque["endpoint"] == self.endpoint and opaque["family"] == self.family)


def family_of(model: str) -> str:
    """The model's name without its version: versions of one model understand each other's signatures."""
    return _VERSION.sub("", model.lower())
