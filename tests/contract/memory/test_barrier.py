"""Forgetting in both stores: the real one, and the fake one of the unit tests."""

import asyncio
from datetime import timedelta

from fakes.memory.models import vector_of
from mesh_common.clock import utc_now
from mesh_common.ids import new_id
from mesh_memory.domain import Barrier, NewMemory, Origin
from mesh_memory.ports import MemoryStore, UnitOfWork
from support.memory import new_subject
from support.turns import source, turn_of

SPACE = "fake/64"


async def _generation(store: MemoryStore) -> int:
    recalled = await store.recall(vector_of("tea"), SPACE, limit=5, min_similarity=-1.0)
    assert (await store.barrier(new_id())).generation == recalled.forget_generation
    return recalled.forget_generation


async def test_user_who_never_deleted_anything_has_no_barrier(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        assert await store.barrier(new_id()) == Barrier()
        assert await _generation(store) == 0


async def test_each_deletion_raises_the_generation_of_its_user_alone(unit_of_work: UnitOfWork) -> None:
    ada, eve = new_subject(), new_subject()
    for _ in range(3):
        async with unit_of_work(ada) as store:
            await store.forget()

    async with unit_of_work(ada) as store:
        barrier = await store.barrier(new_id())
        assert (barrier.generation, await _generation(store)) == (3, 3)
        assert barrier.forgotten_at
        assert abs(barrier.forgotten_at - utc_now()) < timedelta(minutes=1)
    async with unit_of_work(eve) as store:
        assert await _generation(store) == 0


async def test_recall_gives_memories_and_generation_together(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        await store.forget()
        for text in ("I drink green tea", "I drink green coffee", "I live in Rome"):
            await store.add(NewMemory(text, Origin.EXTRACTED, source(), SPACE, vector_of(text)))

        recalled = await store.recall(vector_of("drink green tea"), SPACE, limit=5, min_similarity=0.3)

        assert [memory.text for memory in recalled.memories] == ["I drink green tea", "I drink green coffee"]
        found = await store.search(vector_of("drink green tea"), SPACE, limit=5, min_similarity=0.3)
        assert list(recalled.memories) == found
        assert recalled.forget_generation == 1


async def test_deletions_at_once_are_all_counted(unit_of_work: UnitOfWork) -> None:
    ada = new_subject()

    async def forget() -> None:
        async with unit_of_work(ada) as store:
            await store.lock()
            await store.forget()

    await asyncio.gather(*(forget() for _ in range(4)))

    async with unit_of_work(ada) as store:
        assert await _generation(store) == 4


async def test_forgotten_thread_loses_its_queued_turns_and_late_memories(unit_of_work: UnitOfWork) -> None:
    ada, mine, other = new_subject(), turn_of("I like tea."), turn_of("I live in Rome.")
    deleted_at = utc_now() - timedelta(hours=1)
    async with unit_of_work(ada) as store:
        await store.queue(mine)
        await store.queue(other)
        for turn in (mine, other):
            [said] = turn.messages
            text = said.content
            await store.add(NewMemory(text, Origin.EXTRACTED, said.source, SPACE, vector_of(text)))

    async with unit_of_work(ada) as store:
        assert await store.forget_thread(mine.thread_id, deleted_at) == 1

    async with unit_of_work(ada) as store:
        assert (await store.barrier(mine.thread_id)).is_thread_forgotten
        assert not (await store.barrier(other.thread_id)).is_thread_forgotten
        assert (await store.admission(mine.thread_id)).queued == 1
        assert [memory.text for memory in await store.page(10, None)] == ["I live in Rome."]
        assert await store.close_run(mine.run_id) is None
        assert await store.close_run(other.run_id)
        # The same message again.
        assert await store.forget_thread(mine.thread_id, deleted_at) == 0


async def test_memories_from_before_the_deletion_of_a_thread_stay(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        of = source()
        await store.add(NewMemory("I like tea.", Origin.EXTRACTED, of, SPACE, vector_of("I like tea.")))

        assert await store.forget_thread(of.thread_id, utc_now() + timedelta(hours=1)) == 0
        assert await store.forget_thread(of.thread_id, None) == 0
        assert await store.count() == 1


async def test_answers_of_the_model_are_counted_per_run_until_it_is_closed(unit_of_work: UnitOfWork) -> None:
    ada, turn = new_subject(), turn_of("I like tea.")
    async with unit_of_work(ada) as store:
        assert await store.begin_extraction(turn.run_id) is None
        await store.queue(turn)
    for count in (1, 2):
        async with unit_of_work(ada) as store:
            assert await store.begin_extraction(turn.run_id) == count

    async with unit_of_work(ada) as store:
        await store.refund_extraction(turn.run_id)
        assert await store.begin_extraction(turn.run_id) == 2
        await store.close_run(turn.run_id)
        assert await store.begin_extraction(turn.run_id) is None
