"""Manages the release with helm, with the same commands as in docs/operations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from cluster.processes import run

CHART: Final = Path(__file__).parents[2] / "deploy/helm/mesh"

type Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    """One release in one namespace."""

    release: str
    namespace: str
    chart: Path = CHART

    async def install(self, values: Values, timeout_s: float = 300.0) -> None:
        await self._deploy("install", values, (), timeout_s)

    async def is_there(self) -> bool:
        releases = orjson.loads(await self._run("list", "--output", "json", timeout_s=30))
        return any(each["name"] == self.release for each in releases)

    async def upgrade(self, values: Values, *more: str, timeout_s: float = 300.0) -> None:
        await self._deploy("upgrade", values, more, timeout_s)

    async def rollback(self, revision: int, timeout_s: float = 300.0) -> None:
        await self._run("rollback", self.release, str(revision), *_waiting(timeout_s), timeout_s=timeout_s)

    async def test(self, timeout_s: float = 120.0) -> str:
        return await self._run("test", self.release, f"--timeout={timeout_s:.0f}s", "--logs", timeout_s=timeout_s)

    async def uninstall(self, timeout_s: float = 240.0) -> None:
        waiting = ("--wait", f"--timeout={timeout_s:.0f}s")
        await self._run("uninstall", self.release, *waiting, "--ignore-not-found", timeout_s=timeout_s)

    async def revision(self) -> int:
        history = orjson.loads(await self._run("history", self.release, "--output", "json", timeout_s=30))
        return int(history[-1]["revision"])

    async def _deploy(self, verb: str, values: Values, more: Sequence[str], timeout_s: float) -> None:
        # JSON is YAML.
        given = orjson.dumps(dict(values)).decode()
        argv = (verb, self.release, str(self.chart), "--values", "-", *_waiting(timeout_s), *more)
        await self._run(*argv, stdin=given, timeout_s=timeout_s)

    async def _run(self, *argv: str, stdin: str | None = None, timeout_s: float) -> str:
        return await run("helm", "--namespace", self.namespace, *argv, stdin=stdin, timeout_s=timeout_s + 15)


def _waiting(timeout_s: float) -> tuple[str, ...]:
    return ("--wait", "--wait-for-jobs", f"--timeout={timeout_s:.0f}s")
