"""A small client of the admin API, for tests."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx

from simulator.rules import Rule

_TIMEOUT_S = 10.0


class SimulatorAdmin:
    """Client of one simulator. Use it as an async context manager, or close it.

    Raises: httpx.HTTPStatusError if the simulator rejects a request, e.g. invalid rules.
    """

    def __init__(self, base_url: str) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, timeout=_TIMEOUT_S, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def stats(self) -> dict[str, Any]:
        return await self._call("GET", "/_sim/stats")

    async def requests(self, limit: int | None = None) -> list[dict[str, Any]]:
        """The last model requests with their bodies and outcomes, newest last."""
        path = "/_sim/requests" if limit is None else f"/_sim/requests?limit={limit}"
        requests: list[dict[str, Any]] = (await self._call("GET", path))["requests"]
        return requests

    async def put_rules(self, rules: Sequence[Rule | Mapping[str, Any]]) -> None:
        """Replaces all rules by these."""
        payload = [
            rule.model_dump(mode="json", exclude_unset=True) if isinstance(rule, Rule) else rule for rule in rules
        ]
        await self._call("PUT", "/_sim/rules", payload)

    async def rules(self) -> list[dict[str, Any]]:
        """The active rules, each with its `hits`."""
        rules: list[dict[str, Any]] = (await self._call("GET", "/_sim/rules"))["rules"]
        return rules

    async def clear_rules(self) -> None:
        await self._call("DELETE", "/_sim/rules")

    async def reset(self) -> None:
        """Removes all rules, sets all counts to zero and restarts the sequence of random faults."""
        await self._call("POST", "/_sim/reset")

    async def _call(self, method: str, path: str, payload: object = None) -> dict[str, Any]:
        response = await self._http.request(method, path, json=payload)
        response.raise_for_status()
        body: dict[str, Any] = response.json()
        return body
