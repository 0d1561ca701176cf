"""Fakes of memory's two models."""

import asyncio
from collections.abc import Sequence

from mesh_common.errors import MeshError, Unavailable
from mesh_memory.domain import Fact, Message, Origin, Vector
from simulator.embeddings import embed

DIMENSIONS = 64


def vector_of(text: str) -> Vector:
    """Equal texts have equal vectors; texts that share words have similar ones."""
    return embed(text, DIMENSIONS).tolist()


class FakeEmbedder:
    """`is_away`: fails as the real one does when its server is unavailable."""

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
    """Returns the user's messages, one fact each. After `hold`, it sets `started` and waits for `go_on`. `errors` are
    raised one per call."""

    def __init__(self, origin: Origin = Origin.EXTRACTED) -> None:
        self._origin = origin
        self.known: list[str] = []
        self.calls = 0
        self.errors: list[MeshError] = []
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    @property
    def origin(self) -> Origin:
        return self._origin

    def hold(self) -> None:
        self.go_on.clear()

    async def facts(self, messages: Sequence[Message], known: Sequence[str]) -> list[Fact]:
        self.known = list(known)
        self.calls += 1
        self.started.set()
        await self.go_on.wait()
        if self.errors:
            raise self.errors.pop(0)
        return [Fact(message.content, message.source) for message in messages if message.speaker == "user"]
