"""Secrets of a namespace in memory, as in the Kubernetes API. A test can simulate a process that dies at any call."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ProcessDiedError(Exception):
    """The process died at this call, so nothing after it happened."""


@dataclass
class FakeSecretStore:
    """`dies_after` is the number of changes before the process dies; None for never."""

    secrets: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    dies_after: int | None = None
    changes: int = 0

    def get(self, name: str) -> Mapping[str, Any] | None:
        return self.secrets.get(name)

    def create(self, secret: Mapping[str, Any]) -> bool:
        self._change()
        name = secret["metadata"]["name"]
        if name in self.secrets:
            return False
        kept = {key: value for key, value in secret.items() if key != "stringData"}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in secret["stringData"].items()}
        self.secrets[name] = {**kept, "data": data}
        return True

    def delete(self, name: str) -> None:
        self._change()
        self.secrets.pop(name, None)

    def fields(self, name: str) -> dict[str, str]:
        return {key: base64.b64decode(value).decode() for key, value in self.secrets[name]["data"].items()}

    def _change(self) -> None:
        if self.dies_after is not None and self.changes >= self.dies_after:
            raise ProcessDiedError
        self.changes += 1
