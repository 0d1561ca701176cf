"""Remembering: which turns are queued, and which of their facts are stored."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fakes.memory.models import FakeEmbedder, FakeExtractor, vector_of
from mesh_common.errors import InvalidInput, Unavailable
from mesh_memory.domain import Fact, Message, Origin, Vector
from mesh_memory.usecases import FairEmbedder
from support.memory_on_fakes import USER, MemoryOnFakes
from support.turns import turn_of


async def test_remembering_queues_the_turn_and_wakes_the_worker(service: MemoryOnFakes) -> None:
    turn = turn_of("I like tea.")

    await service.remember(USER, turn)

    assert service.unit_of_work.queued(USER) == [turn]
    assert service.wakes == 1


async def test_a_run_remembered_twice_is_queued_once(service: MemoryOnFakes) -> None:
    turn = turn_of("I like tea.")

    await service.remember(USER, turn)
    await service.remember(USER, turn)

    assert service.unit_of_work.queued(USER) == [turn]
    assert service.wakes == 1


async def test_a_user_with_too_many_queued_turns_is_told_to_come_back(service: MemoryOnFakes) -> None:
    await service.remember(USER, turn_of("I like tea."))
    await service.remember(USER, turn_of("I like coffee."))

    with pytest.raises(Unavailable) as raised:
        await service.remember(USER, turn_of("I like water."))

    assert raised.value.retry_after_s


async def test_the_facts_of_a_turn_are_kept_with_their_run(service: MemoryOnFakes) -> None:
    turn = await service.kept("I like tea.")

    [memory] = (await service.edit.page(USER, 10, None)).memories
    assert (memory.text, memory.run_id, memory.origin) == ("I like tea.", turn.run_id, Origin.EXTRACTED)


async def test_a_turn_processed_twice_is_kept_once(service: MemoryOnFakes) -> None:
    turn = await service.kept("I like tea.")
    [memory] = (await service.edit.page(USER, 10, None)).memories
    await service.forget.one(USER, memory.id)

    await service.keep(USER, turn)

    assert await service.texts() == []


async def test_a_turn_without_facts_keeps_nothing_and_embeds_no_fact(service: MemoryOnFakes) -> None:
    await service.kept()

    assert await service.texts() == []
    assert service.embedder.asked == []


async def test_the_model_is_shown_what_is_known(service: MemoryOnFakes) -> None:
    await service.kept("I like green tea.")

    await service.kept("My tea is green.")

    assert service.extractor.known == ["I like green tea."]


async def test_without_a_model_nothing_is_looked_up_for_it() -> None:
    service = MemoryOnFakes(Origin.VERBATIM)

    await service.kept("I like green tea.")

    assert service.embedder.asked == ["I like green tea."]
    [memory] = (await service.edit.page(USER, 10, None)).memories
    assert memory.origin is Origin.VERBATIM


@pytest.mark.parametrize("again", ["i  like GREEN tea.", "I like green tea!"])
async def test_a_fact_that_says_the_same_is_not_kept_twice(service: MemoryOnFakes, again: str) -> None:
    await service.kept("I like green tea.")

    await service.kept(again)

    assert await service.texts() == ["I like green tea."]


async def test_two_facts_of_one_turn_that_say_the_same_are_kept_once(service: MemoryOnFakes) -> None:
    await service.kept("I like green tea.", "I like green tea!")

    assert await service.texts() == ["I like green tea."]


async def test_facts_with_other_numbers_are_both_kept_however_near() -> None:
    class Blunt(FakeEmbedder):
        async def passages(self, texts: Sequence[str], *, timeout_s: float) -> list[Vector]:  # noqa: ARG002
            return [vector_of("the same") for _ in texts]

    service = MemoryOnFakes()
    keep = replace(service.keep, embedder=Blunt())
    for text in ("My code is zebra-4711.", "My code is zebra-4712."):
        turn = turn_of(text)
        await service.remember(USER, turn)
        await keep(USER, turn)

    assert len(await service.texts()) == 2


async def test_beyond_the_limit_the_facts_of_a_turn_are_not_kept(service: MemoryOnFakes) -> None:
    await service.kept("My dog is Rex.", "I live in Rome.", "She plays chess.", "Tea tastes good.")

    assert await service.texts() == ["She plays chess.", "I live in Rome.", "My dog is Rex."]


async def test_a_turn_whose_facts_get_no_vectors_stays_open(service: MemoryOnFakes) -> None:
    turn = turn_of("I like tea.")
    await service.remember(USER, turn)
    service.embedder.is_away = True

    with pytest.raises(Unavailable):
        await service.keep(USER, turn)

    service.embedder.is_away = False
    await service.keep(USER, turn)
    assert await service.texts() == ["I like tea."]


async def test_a_turn_in_progress_while_the_user_deletes_all_is_not_kept(service: MemoryOnFakes) -> None:
    turn = turn_of("I like tea.")
    await service.remember(USER, turn)
    service.extractor.hold()

    async with asyncio.TaskGroup() as group:
        group.create_task(service.keep(USER, turn))
        await service.extractor.started.wait()
        await service.forget.all(USER)
        service.extractor.go_on.set()

    assert await service.texts() == []


async def test_deleting_all_drops_what_is_queued(service: MemoryOnFakes) -> None:
    await service.kept("I like tea.")
    turn = turn_of("I like coffee.")
    await service.remember(USER, turn)

    deleted = await service.forget.all(USER)
    await service.remember(USER, turn)

    assert deleted == 1
    assert service.unit_of_work.queued(USER) == []


async def test_after_deleting_all_new_turns_are_kept(service: MemoryOnFakes) -> None:
    await service.forget.all(USER)

    await service.kept("I like tea.")

    assert await service.texts() == ["I like tea."]


async def test_no_transaction_is_open_while_a_model_works(service: MemoryOnFakes) -> None:
    seen: list[int] = []

    class Watching(FakeEmbedder):
        async def passages(self, texts: Sequence[str], *, timeout_s: float) -> list[Vector]:
            seen.append(service.unit_of_work.open_transactions)
            return await super().passages(texts, timeout_s=timeout_s)

    watching = Watching()
    edit = replace(service.edit, embedder=FairEmbedder(watching))
    memory = await edit.create(USER, "I like tea.")
    await edit.update(USER, memory.id, "I like coffee.")
    await replace(service.find, embedder=watching).recall(USER, "coffee", 5)
    await replace(service.keep, embedder=watching)(USER, turn_of("I like water."))

    assert seen
    assert set(seen) == {0}


async def test_a_refused_turn_keeps_nothing(service: MemoryOnFakes) -> None:
    class Refusing(FakeExtractor):
        async def facts(self, messages: Sequence[Message], known: Sequence[str]) -> list[Fact]:  # noqa: ARG002
            raise InvalidInput("The model rejects this turn.", reason="EXTRACTION_REFUSED")

    turn = turn_of("I like tea.")
    await service.remember(USER, turn)

    with pytest.raises(InvalidInput):
        await replace(service.keep, extractor=Refusing())(USER, turn)

    assert await service.texts() == []
