import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fakes.memory.models import FakeEmbedder, FakeExtractor, vector_of
from fakes.memory.store import FakeUnitOfWork
from mesh_common.errors import DeadlineExceeded, InvalidInput, NotFound, QuotaExceeded, Unavailable
from mesh_common.ids import UserId, new_id
from mesh_memory.domain import Message, Origin, Speaker, Turn, Vector
from mesh_memory.usecases import EditMemories, FindMemories, KeepTurn, Limits, Remember

LIMITS = Limits(
    recall_timeout_s=0.3,
    embedding_timeout_s=5.0,
    recall_min_similarity=0.3,
    duplicate_similarity=0.95,
    max_memories=3,
    max_queued_turns=2,
)
USER = UserId(new_id())


class Service:
    """The use cases on fakes."""

    def __init__(self, origin: Origin = Origin.EXTRACTED) -> None:
        self.unit_of_work = FakeUnitOfWork()
        self.embedder = FakeEmbedder()
        self.extractor = FakeExtractor(origin)
        self.wakes = 0
        self.find = FindMemories(self.unit_of_work, self.embedder, LIMITS)
        self.remember = Remember(self.unit_of_work, self._wake, LIMITS)
        self.keep = KeepTurn(self.unit_of_work, self.embedder, self.extractor, LIMITS)
        self.edit = EditMemories(self.unit_of_work, self.embedder, LIMITS)

    def _wake(self) -> None:
        self.wakes += 1

    async def kept(self, *said: str) -> Turn:
        """Remembers a turn and works it off."""
        turn = turn_of(*said)
        await self.remember(USER, turn)
        await self.keep(USER, turn)
        return turn

    async def texts(self, user_id: UserId = USER) -> list[str]:
        return [memory.text for memory in (await self.edit.page(user_id, 100, None)).memories]


@pytest.fixture
def service() -> Service:
    return Service()


def turn_of(*said: str) -> Turn:
    return Turn(new_id(), new_id(), tuple(Message(Speaker.USER, text) for text in said))


async def test_remembering_queues_the_turn_and_wakes_the_worker(service: Service) -> None:
    turn = turn_of("I like tea.")

    await service.remember(USER, turn)

    assert service.unit_of_work.queued(USER) == [turn]
    assert service.wakes == 1


async def test_a_run_remembered_twice_is_queued_once(service: Service) -> None:
    turn = turn_of("I like tea.")

    await service.remember(USER, turn)
    await service.remember(USER, turn)

    assert service.unit_of_work.queued(USER) == [turn]
    assert service.wakes == 1


async def test_a_user_with_too_many_queued_turns_is_told_to_come_back(service: Service) -> None:
    await service.remember(USER, turn_of("I like tea."))
    await service.remember(USER, turn_of("I like coffee."))

    with pytest.raises(Unavailable) as raised:
        await service.remember(USER, turn_of("I like water."))

    assert raised.value.retry_after_s


async def test_the_facts_of_a_turn_are_kept_with_their_run(service: Service) -> None:
    turn = await service.kept("I like tea.")

    [memory] = (await service.edit.page(USER, 10, None)).memories
    assert (memory.text, memory.run_id, memory.origin) == ("I like tea.", turn.run_id, Origin.EXTRACTED)


async def test_a_turn_worked_off_twice_is_kept_once(service: Service) -> None:
    turn = await service.kept("I like tea.")
    [memory] = (await service.edit.page(USER, 10, None)).memories
    await service.edit.delete(USER, memory.id)

    await service.keep(USER, turn)

    assert await service.texts() == []


async def test_a_turn_without_facts_keeps_nothing_and_embeds_no_fact(service: Service) -> None:
    await service.kept()

    assert await service.texts() == []
    assert service.embedder.asked == []


async def test_the_model_is_shown_what_is_known(service: Service) -> None:
    await service.kept("I like green tea.")

    await service.kept("My tea is green.")

    assert service.extractor.known == ["I like green tea."]


async def test_without_a_model_nothing_is_looked_up_for_it() -> None:
    service = Service(Origin.VERBATIM)

    await service.kept("I like green tea.")

    assert service.embedder.asked == ["I like green tea."]
    [memory] = (await service.edit.page(USER, 10, None)).memories
    assert memory.origin is Origin.VERBATIM


@pytest.mark.parametrize("again", ["i  like GREEN tea.", "I like green tea!"])
async def test_a_fact_that_says_the_same_is_not_kept_twice(service: Service, again: str) -> None:
    await service.kept("I like green tea.")

    await service.kept(again)

    assert await service.texts() == ["I like green tea."]


async def test_two_facts_of_one_turn_that_say_the_same_are_kept_once(service: Service) -> None:
    await service.kept("I like green tea.", "I like green tea!")

    assert await service.texts() == ["I like green tea."]


async def test_facts_with_other_numbers_are_both_kept_however_near() -> None:
    class Blunt(FakeEmbedder):
        async def passages(self, texts: Sequence[str], *, timeout_s: float) -> list[Vector]:  # noqa: ARG002
            return [vector_of("the same") for _ in texts]

    service = Service()
    keep = replace(service.keep, embedder=Blunt())
    for text in ("My code is zebra-4711.", "My code is zebra-4712."):
        turn = turn_of(text)
        await service.remember(USER, turn)
        await keep(USER, turn)

    assert len(await service.texts()) == 2


async def test_beyond_the_limit_the_facts_of_a_turn_are_not_kept(service: Service) -> None:
    await service.kept("My dog is Rex.", "I live in Rome.", "She plays chess.", "Tea tastes good.")

    assert await service.texts() == ["She plays chess.", "I live in Rome.", "My dog is Rex."]


async def test_a_turn_whose_facts_get_no_vectors_stays_open(service: Service) -> None:
    turn = turn_of("I like tea.")
    await service.remember(USER, turn)
    service.embedder.is_away = True

    with pytest.raises(Unavailable):
        await service.keep(USER, turn)

    service.embedder.is_away = False
    await service.keep(USER, turn)
    assert await service.texts() == ["I like tea."]


async def test_what_is_in_work_while_the_user_deletes_all_is_not_kept(service: Service) -> None:
    turn = turn_of("I like tea.")
    await service.remember(USER, turn)
    service.extractor.hold()

    async with asyncio.TaskGroup() as group:
        group.create_task(service.keep(USER, turn))
        await service.extractor.started.wait()
        await service.edit.delete_all(USER)
        service.extractor.go_on.set()

    assert await service.texts() == []


async def test_deleting_all_drops_what_is_queued(service: Service) -> None:
    await service.kept("I like tea.")
    turn = turn_of("I like coffee.")
    await service.remember(USER, turn)

    deleted = await service.edit.delete_all(USER)
    await service.remember(USER, turn)

    assert deleted == 1
    assert service.unit_of_work.queued(USER) == []


async def test_after_deleting_all_new_turns_are_kept(service: Service) -> None:
    await service.edit.delete_all(USER)

    await service.kept("I like tea.")

    assert await service.texts() == ["I like tea."]


async def test_recall_gives_what_is_near_enough(service: Service) -> None:
    await service.kept("My code word is zebra.", "I live in Rome.")

    found = await service.find.recall(USER, "What is my code word?", 5)

    assert [memory.text for memory in found] == ["My code word is zebra."]


async def test_search_gives_the_nearest_however_far(service: Service) -> None:
    await service.kept("My code word is zebra.", "I live in Rome.")

    found = await service.find.search(USER, "code word", 5)

    assert [memory.text for memory in found] == ["My code word is zebra.", "I live in Rome."]


async def test_recall_tells_that_the_embedding_server_is_away(service: Service) -> None:
    service.embedder.is_away = True

    with pytest.raises(Unavailable):
        await service.find.recall(USER, "code word", 5)


async def test_recall_keeps_to_its_budget(service: Service) -> None:
    class Slow(FakeEmbedder):
        async def query(self, text: str, *, timeout_s: float) -> Vector:  # noqa: ARG002
            await asyncio.Event().wait()
            raise AssertionError

    find = replace(service.find, embedder=Slow(), limits=replace(LIMITS, recall_timeout_s=0.01))

    with pytest.raises(DeadlineExceeded):
        await find.recall(USER, "code word", 5)


async def test_no_transaction_is_open_while_a_model_works(service: Service) -> None:
    seen: list[int] = []

    class Watching(FakeEmbedder):
        async def passages(self, texts: Sequence[str], *, timeout_s: float) -> list[Vector]:
            seen.append(service.unit_of_work.open_transactions)
            return await super().passages(texts, timeout_s=timeout_s)

    watching = Watching()
    edit = replace(service.edit, embedder=watching)
    memory = await edit.create(USER, "I like tea.")
    await edit.update(USER, memory.id, "I like coffee.")
    await replace(service.find, embedder=watching).recall(USER, "coffee", 5)
    await replace(service.keep, embedder=watching)(USER, turn_of("I like water."))

    assert seen
    assert set(seen) == {0}


async def test_a_written_memory_is_returned_not_kept_twice(service: Service) -> None:
    first = await service.edit.create(USER, "I like tea.")

    second = await service.edit.create(USER, "i like TEA.")

    assert second == first
    assert first.origin is Origin.WRITTEN


async def test_a_user_with_too_many_memories_is_refused_another(service: Service) -> None:
    for text in ("My dog is Rex.", "I live in Rome.", "She plays chess."):
        await service.edit.create(USER, text)

    with pytest.raises(QuotaExceeded):
        await service.edit.create(USER, "Tea tastes good.")

    assert (await service.edit.create(USER, "my dog is rex.")).text == "My dog is Rex."


async def test_a_memory_is_found_by_its_new_text_after_an_update(service: Service) -> None:
    memory = await service.edit.create(USER, "I live in Rome.")

    await service.edit.update(USER, memory.id, "My code word is zebra.")

    [found] = await service.find.recall(USER, "code word", 5)
    assert (found.id, found.text) == (memory.id, "My code word is zebra.")


async def test_the_memory_of_another_user_is_not_found(service: Service) -> None:
    memory = await service.edit.create(USER, "I live in Rome.")
    stranger = UserId(new_id())

    with pytest.raises(NotFound):
        await service.edit.get(stranger, memory.id)
    with pytest.raises(NotFound):
        await service.edit.update(stranger, memory.id, "Mine.")
    with pytest.raises(NotFound):
        await service.edit.delete(stranger, memory.id)

    assert (await service.edit.get(USER, memory.id)).text == "I live in Rome."


async def test_pages_end_without_a_position(service: Service) -> None:
    for text in ("My dog is Rex.", "I live in Rome.", "She plays chess."):
        await service.edit.create(USER, text)

    first = await service.edit.page(USER, 2, None)
    second = await service.edit.page(USER, 2, first.next)

    assert [memory.text for memory in (*first.memories, *second.memories)] == [
        "She plays chess.",
        "I live in Rome.",
        "My dog is Rex.",
    ]
    assert second.next is None


async def test_a_refused_turn_keeps_nothing(service: Service) -> None:
    class Refusing(FakeExtractor):
        async def facts(self, messages: Sequence[Message], known: Sequence[str]) -> list[str]:  # noqa: ARG002
            raise InvalidInput("The model refuses to read this turn.", reason="EXTRACTION_REFUSED")

    turn = turn_of("I like tea.")
    await service.remember(USER, turn)

    with pytest.raises(InvalidInput):
        await replace(service.keep, extractor=Refusing())(USER, turn)

    assert await service.texts() == []
