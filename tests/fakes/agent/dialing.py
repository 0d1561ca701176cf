"""A network that is never dialled: names with set addresses, and sockets that record who asks for them."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp.abc import AbstractResolver, ResolveResult


@dataclass
class RecordingSockets:
    """Creates no socket. `families` are those that were asked for."""

    families: list[int] = field(default_factory=list)

    def __call__(self, family: int, kind: int, protocol: int) -> socket.socket:
        del kind, protocol
        self.families.append(family)
        raise OSError("no socket in this test")


class FakeResolver(AbstractResolver):
    """`answers` by name, else those of `*`; successive lists for successive questions, the last one repeated."""

    def __init__(self, answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._given = answers
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        self.asked.append(host)
        given = self._given.get(host) or self._given.get("*")
        if given is None:
            raise OSError("unknown name")
        addresses = given[min(self.asked.count(host), len(given)) - 1]
        return [_result(host, address, port) for address in addresses]

    async def close(self) -> None:
        pass


def _result(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=0,
        flags=socket.AI_NUMERICHOST,
    )
