"""Reads the marks that tools recorded at the server in the cluster."""

from dataclasses import dataclass

import httpx
from chaos.history import Mark


@dataclass(frozen=True, slots=True)
class MarkClient:
    """`base_url` is the server's address from this machine."""

    base_url: str

    async def take(self) -> list[Mark]:
        """The marks since the last call."""
        async with httpx.AsyncClient(base_url=self.base_url, timeout=10, trust_env=False) as http:
            found = (await http.get("/marks")).raise_for_status().json()
            (await http.delete("/marks")).raise_for_status()
        return [Mark(tool=each["tool"], key=each["key"], token=each["token"]) for each in found]
