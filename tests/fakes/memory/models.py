"""The two models of memory without models."""

import asyncio
from collections.abc import Sequence

from mesh_common.errors import Unavailable
from mesh_memory.domain import Message, Origin, Vector
from simulator.embeddings import embed

DIMENSIONS = 64


def vector_of(text: str) -> Vector:
    """The same for the same text; texts that share words lie near each other."""
    return embed(text, DIMENSIONS).tolist()


class FakeEmbedder:
    """`is_away`: it fails as the real one does."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked: list[str] = []

    @property
    def space(self) -> str:
        return f"fake/{DIMENSIONS}"

    async def query(self, text: str, *, timeout_s: float) -> Vector:
        [vector] = await self.passages([text], timeout_s=timeout_s)
        return vector

    async def passages(self, texts: Sequence[str], *, timeout_s: float) -> list[Vector]:
        assert timeout_s > 0
        if self.is_away:
            raise Unavailable("The embedding server returns no vectors.", retry_after_s=1.0)
        self.asked.extend(texts)
        return [vector_of(text) for text in texts]


class FakeExtractor:
    """Gives what the user said, one fact a message. `hold` makes it wait for `go_on` once it has `started`."""

    def __init__(self, origin: Origin = Origin.EXTRACTED) -> None:
        self._origin = origin
        self.known: list[str] = []
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    @property
    def origin(self) -> Origin:
        return self._origin

    def hold(self) -> None:
        self.go_on.clear()

    async def facts(self, messages: Sequence[Message], known: Sequence[str]) -> list[str]:
        self.known = list(known)
        self.started.set()
        await self.go_on.wait()
        return [message.content for message in messages if message.speaker == "user"]
