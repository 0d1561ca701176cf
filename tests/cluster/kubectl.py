"""Access to the Kubernetes API through kubectl, as readers of the documentation have it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import orjson

from cluster.processes import ProgramError, run

_LOOK_AGAIN_S: Final = 0.25

type Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl in one namespace."""

    namespace: str

    def within(self, namespace: str) -> Self:
        return type(self)(namespace)

    async def run(self, *argv: str, stdin: str | None = None, timeout_s: float = 60.0) -> str:
        return await run("kubectl", "--namespace", self.namespace, *argv, stdin=stdin, timeout_s=timeout_s)

    async def apply(self, manifests: str) -> None:
        await self.run("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=manifests)

    async def get(self, kind: str, name: str) -> Object:
        found: Object = orjson.loads(await self.run("get", kind, name, "--output", "json"))
        return found

    async def find(self, kind: str, selector: str = "") -> list[Object]:
        chosen = ("--selector", selector) if selector else ()
        items: list[Object] = orjson.loads(await self.run("get", kind, *chosen, "--output", "json"))["items"]
        return items

    async def pods(self, component: str) -> list[Object]:
        """Running pods of a component of the release, without those that are terminating."""
        found = await self.find("pods", f"app.kubernetes.io/component={component}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"] and _phase(pod) == "Running"]

    async def ready_pods(self, component: str) -> list[Object]:
        return [pod for pod in await self.pods(component) if is_ready(pod)]

    async def python(self, pod: str, script: str, *arguments: str, timeout_s: float = 60.0) -> str:
        """Runs a script in a pod with the image's Python and returns its output."""
        argv = ("exec", "--stdin", pod, "--", "python", "-", *arguments)
        return await self.run(*argv, stdin=script, timeout_s=timeout_s)

    async def rolled_out(self, workload: str, timeout_s: float = 180.0) -> None:
        await self.run("rollout", "status", workload, f"--timeout={timeout_s:.0f}s", timeout_s=timeout_s + 10)

    async def delete_namespace(self) -> None:
        await self.run("delete", "namespace", self.namespace, "--ignore-not-found", timeout_s=240)


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def name_of(found: Object) -> str:
    return str(found["metadata"]["name"])


async def eventually[T](
    what: str, poll: Callable[[], Awaitable[T | None]], *, within_s: float, again_s: float = _LOOK_AGAIN_S
) -> T:
    """Polls until the result is truthy, and returns it. Raises AssertionError with `what` on timeout."""
    until_s = time.monotonic() + within_s
    trouble = ""
    while time.monotonic() < until_s:
        try:
            if found := await poll():
                return found
        except ProgramError as error:
            trouble = f": {error}"
        await asyncio.sleep(again_s)
    raise AssertionError(f"not within {within_s:.0f} s: {what}{trouble}")


def _phase(pod: Object) -> str:
    return str(pod["status"].get("phase"))
