"""Recall and search among the user's own memories."""

import asyncio
from dataclasses import replace

import pytest
from fakes.memory.models import FakeEmbedder
from mesh_common.errors import DeadlineExceeded, Unavailable
from mesh_memory.domain import Vector
from support.memory_on_fakes import LIMITS, USER, MemoryOnFakes


async def test_recall_gives_what_is_near_enough(service: MemoryOnFakes) -> None:
    await service.kept("My code word is zebra.", "I live in Rome.")

    found = await service.find.recall(USER, "What is my code word?", 5)

    assert [memory.text for memory in found.memories] == ["My code word is zebra."]


async def test_search_gives_the_nearest_however_far(service: MemoryOnFakes) -> None:
    await service.kept("My code word is zebra.", "I live in Rome.")

    found = await service.find.search(USER, "code word", 5)

    assert [memory.text for memory in found] == ["My code word is zebra.", "I live in Rome."]


async def test_recall_reports_that_the_embedding_server_is_unavailable(service: MemoryOnFakes) -> None:
    service.embedder.is_away = True

    with pytest.raises(Unavailable):
        await service.find.recall(USER, "code word", 5)


async def test_recall_keeps_to_its_budget(service: MemoryOnFakes) -> None:
    class Slow(FakeEmbedder):
        async def query(self, text: str, *, timeout_s: float) -> Vector:  # noqa: ARG002
            await asyncio.Event().wait()
            raise AssertionError

    find = replace(service.find, embedder=Slow(), limits=replace(LIMITS, recall_timeout_s=0.01))

    with pytest.raises(DeadlineExceeded):
        await find.recall(USER, "code word", 5)
