"""The marks that tools left, from the server in the cluster."""

from dataclasses import dataclass

import httpx
from chaos.history import Mark


@dataclass(frozen=True, slots=True)
class MarkClient:
    """`base_url` is how this machine reaches it."""

    base_url: str

    async def take(self) -> list[Mark]:
        """The marks since the last time."""
        async with httpx.AsyncClient(base_url=self.base_url, timeout=10, trust_env=False) as http:
            found = (await http.get("/marks")).raise_for_status().json()
            (await http.delete("/marks")).raise_for_status()
        return [Mark(tool=each["tool"], key=each["key"], token=each["token"]) for each in found]
