"""The similarities on which the settings are based, measured with the embedding model of the dev stack."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from mesh_common.database.postgres import Database
from mesh_common.jobs.queue import JobQueue
from mesh_dev import parts
from mesh_dev.local_models import EMBEDDING_DIMENSIONS, EMBEDDING_MODEL, PASSAGE_PREFIX, QUERY_PREFIX
from mesh_dev.models import E5_MIN_SIMILARITY
from mesh_memory.domain import NewMemory, Origin
from mesh_memory.embedder import HttpEmbedder, open_embedder
from mesh_memory.extraction.extractor import open_extractor
from mesh_memory.settings import MemorySettings
from mesh_memory.store import PostgresUnitOfWork
from mesh_memory.usecases import EditMemories, FairEmbedder, FindMemories, KeepTurn, Limits
from support.memory import new_subject
from support.net import free_port
from support.turns import turn_of

FACTS = (
    "My name is Ada and my code word is zebra-4711.",
    "I live in Berlin.",
    "I am allergic to peanuts.",
    "I work as a nurse.",
    "저는 강아지를 키워요.",
)


@pytest.fixture(scope="module")
async def embedder(settings: MemorySettings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HttpEmbedder]:
    e5: dict[str, Any] = {
        "embedding_model": EMBEDDING_MODEL,
        "embedding_dimensions": EMBEDDING_DIMENSIONS,
        "embedding_query_prefix": QUERY_PREFIX,
        "embedding_passage_prefix": PASSAGE_PREFIX,
    }
    port = free_port()
    server = parts.embedding_server(tmp_path_factory.mktemp("embeddings"), port)
    await server.start()
    try:
        e5["embedding_base_url"] = f"http://127.0.0.1:{port}/v1"
        async with open_embedder(settings.model_copy(update=e5)) as opened:
            yield opened
    finally:
        await server.stop()


@pytest.fixture
def limits(settings: MemorySettings) -> Limits:
    return Limits(
        10.0,
        10.0,
        E5_MIN_SIMILARITY,
        settings.duplicate_similarity,
        max_memories=100,
        max_queued_turns=10,
        max_extractions=3,
    )


@pytest.fixture
def unit_of_work(database: Database) -> PostgresUnitOfWork:
    return PostgresUnitOfWork(database, JobQueue("memory.jobs"))


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("What is my code word?", FACTS[0]),
        ("What is my name?", FACTS[0]),
        ("Where do I live?", FACTS[1]),
        ("What am I allergic to?", FACTS[2]),
        ("What is my job?", FACTS[3]),
        ("제가 어떤 동물을 키우죠?", FACTS[4]),
    ],
)
async def test_a_question_recalls_the_fact_that_answers_it(
    embedder: HttpEmbedder, unit_of_work: PostgresUnitOfWork, limits: Limits, question: str, fact: str
) -> None:
    user = new_subject()
    vectors = await embedder.passages(FACTS, timeout_s=10.0)
    async with unit_of_work(user) as store:
        for text, vector in zip(FACTS, vectors, strict=True):
            await store.add(NewMemory(text, Origin.WRITTEN, None, embedder.space, vector))

    recalled = await FindMemories(unit_of_work, embedder, FairEmbedder(embedder), limits).recall(user, question, 5)

    assert recalled.memories
    assert recalled.memories[0].text == fact


@pytest.mark.parametrize("question", ["What is the capital of France?", "Write a haiku about rain."])
async def test_a_question_about_the_world_recalls_nothing(
    embedder: HttpEmbedder, unit_of_work: PostgresUnitOfWork, limits: Limits, question: str
) -> None:
    user = new_subject()
    edit = EditMemories(unit_of_work, FairEmbedder(embedder), limits)
    for fact in FACTS:
        await edit.create(user, fact)

    assert (
        await FindMemories(unit_of_work, embedder, FairEmbedder(embedder), limits).recall(user, question, 5)
    ).memories == []


async def _kept(
    embedder: HttpEmbedder,
    unit_of_work: PostgresUnitOfWork,
    limits: Limits,
    settings: MemorySettings,
    *facts: str,
) -> list[str]:
    """The memories that are stored if the facts are said in successive runs."""
    user = new_subject()
    async with open_extractor(settings.model_copy(update={"extraction_model": ""})) as extractor:
        keep = KeepTurn(unit_of_work, embedder, extractor, limits)
        for fact in facts:
            turn = turn_of(fact)
            async with unit_of_work(user) as store:
                await store.queue(turn)
            await keep(user, turn)
    page = await EditMemories(unit_of_work, FairEmbedder(embedder), limits).page(user, 10, None)
    return [memory.text for memory in page.memories]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("My code word is zebra-4711.", "My code word is zebra-4712."),
        ("My name is Ada.", "My name is Ana."),
        ("I live in Berlin.", "I live in Munich."),
        ("I like tea.", "I don't like tea."),
        ("I have two cats.", "I have three cats."),
        ("저는 서울에 살아요", "저는 부산에 살아요"),
    ],
)
async def test_facts_that_differ_are_both_kept(
    embedder: HttpEmbedder,
    unit_of_work: PostgresUnitOfWork,
    limits: Limits,
    settings: MemorySettings,
    one: str,
    other: str,
) -> None:
    assert await _kept(embedder, unit_of_work, limits, settings, one, other) == [other, one]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The user's name is Ada.", "The user is called Ada."),
        ("The user likes hiking.", "The user enjoys hiking."),
        ("My favourite colour is blue.", "My favorite color is blue."),
    ],
)
async def test_a_fact_in_other_words_is_kept_once(
    embedder: HttpEmbedder,
    unit_of_work: PostgresUnitOfWork,
    limits: Limits,
    settings: MemorySettings,
    one: str,
    other: str,
) -> None:
    assert await _kept(embedder, unit_of_work, limits, settings, one, other) == [one]
