"""The behaviour of both stores: the real one, and the fake one of the unit tests."""

import asyncio
from typing import Any

import pytest
from fakes.memory.models import vector_of
from mesh_common.errors import AlreadyExists
from mesh_common.ids import new_id
from mesh_common.subject import Subject
from mesh_memory.domain import Memory, MemoryId, NewMemory, Origin, Position, Source, Turn
from mesh_memory.ports import MemoryStore, UnitOfWork
from support.memory import new_subject
from support.turns import source, turn_of

SPACE = "fake/64"


def _new(text: str, space: str = SPACE) -> NewMemory:
    return NewMemory(text, Origin.EXTRACTED, source(), space, vector_of(text))


def _turn() -> Turn:
    return turn_of("I like tea.", "I drink it daily.")


def _source_of(memory: Memory) -> tuple[Any, ...]:
    return memory.run_id, memory.thread_id, memory.message_id, memory.said_at


async def _queued(store: MemoryStore) -> int:
    return (await store.admission(new_id())).queued


async def _keep(store: MemoryStore, *texts: str) -> list[Memory]:
    kept = [await store.add(_new(text)) for text in texts]
    return [memory for memory in kept if memory]


async def test_what_was_added_is_read_back(unit_of_work: UnitOfWork) -> None:
    user, new = new_subject(), _new("I like tea.")
    async with unit_of_work(user) as store:
        added = await store.add(new)
    assert added

    async with unit_of_work(user) as store:
        found = await store.get(added.id)

    assert found == added
    assert new.source
    assert (found.text, found.origin, found.similarity) == (new.text, new.origin, None)
    assert Source(*_source_of(found)) == new.source


async def test_a_text_that_differs_in_spaces_and_case_alone_is_the_same(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        [first] = await _keep(store, "I like tea.")

        second = await store.add(_new("i  LIKE tea."))

        assert second is None
        assert await store.same_text(" I like TEA. ") == first
        assert await store.count() == 1


async def test_two_users_may_have_the_same_memory(unit_of_work: UnitOfWork) -> None:
    for user in (new_subject(), new_subject()):
        async with unit_of_work(user) as store:
            assert await _keep(store, "I like tea.")


async def test_the_rows_of_another_user_are_not_there(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        [foreign] = await _keep(store, "I like tea.")

    async with unit_of_work(new_subject()) as store:
        assert await store.get(foreign.id) is None
        assert await store.page(10, None) == []
        assert await store.search(vector_of("tea"), SPACE, limit=10, min_similarity=-1.0) == []
        assert await store.change(foreign.id, "Mine now.", SPACE, vector_of("x")) is None
        assert not await store.delete(foreign.id)
        assert await store.delete_all() == 0


async def test_search_gives_the_nearest_first_down_to_the_least_similarity(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        await _keep(store, "I live in Berlin", "I drink green tea", "I drink green coffee")

        found = await store.search(vector_of("drink green tea"), SPACE, limit=10, min_similarity=0.3)

    assert [memory.text for memory in found] == ["I drink green tea", "I drink green coffee"]
    assert 1.0 > (found[0].similarity or 0) > (found[1].similarity or 0) >= 0.3


async def test_search_gives_at_most_so_many(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        await _keep(store, "I like tea", "I like coffee", "I like water")

        found = await store.search(vector_of("tea"), SPACE, limit=2, min_similarity=-1.0)

    assert len(found) == 2


async def test_search_compares_vectors_of_one_model_only(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        await store.add(NewMemory("Another model's", Origin.WRITTEN, None, "other/2", [1.0, 0.0]))
        [mine] = await _keep(store, "I like tea")

        found = await store.search(vector_of("tea"), SPACE, limit=10, min_similarity=-1.0)

    assert [memory.id for memory in found] == [mine.id]


async def test_pages_follow_each_other_newest_first(unit_of_work: UnitOfWork) -> None:
    user = new_subject()
    kept = []
    for number in range(5):
        async with unit_of_work(user) as store:
            kept += await _keep(store, f"Fact {number}")

    async with unit_of_work(user) as store:
        first = await store.page(2, None)
        second = await store.page(2, Position(first[-1].created_at, first[-1].id))
        third = await store.page(2, Position(second[-1].created_at, second[-1].id))

    assert [memory.id for memory in (*first, *second, *third)] == [memory.id for memory in reversed(kept)]


async def test_a_change_is_found_by_its_new_vector(unit_of_work: UnitOfWork) -> None:
    user = new_subject()
    async with unit_of_work(user) as store:
        [memory] = await _keep(store, "I live in Berlin")

    async with unit_of_work(user) as store:
        changed = await store.change(memory.id, "I like tea", SPACE, vector_of("I like tea"))
        found = await store.search(vector_of("like tea"), SPACE, limit=1, min_similarity=0.5)

    assert changed
    assert (changed.text, changed.created_at) == ("I like tea", memory.created_at)
    assert changed.updated_at > memory.updated_at
    assert [memory.id for memory in found] == [changed.id]


async def test_a_change_to_the_text_of_another_memory_is_refused(unit_of_work: UnitOfWork) -> None:
    user = new_subject()
    async with unit_of_work(user) as store:
        [tea, _] = await _keep(store, "I like tea", "I like coffee")

    with pytest.raises(AlreadyExists):
        async with unit_of_work(user) as store:
            await store.change(tea.id, "i like coffee", SPACE, vector_of("x"))


async def test_a_change_of_case_alone_is_no_conflict_with_itself(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        [tea] = await _keep(store, "I like tea")

        changed = await store.change(tea.id, "I LIKE TEA", SPACE, vector_of("x"))

    assert changed
    assert changed.text == "I LIKE TEA"


async def test_what_is_not_there_is_neither_changed_nor_deleted(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        assert await store.change(MemoryId(new_id()), "text", SPACE, vector_of("x")) is None
        assert not await store.delete(MemoryId(new_id()))


async def test_a_deleted_memory_is_gone(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        [tea, coffee] = await _keep(store, "I like tea", "I like coffee")

        assert await store.delete(tea.id)

        assert [memory.id for memory in await store.page(10, None)] == [coffee.id]
        assert await store.delete_all() == 1
        assert await store.count() == 0


async def test_a_failed_transaction_leaves_nothing(unit_of_work: UnitOfWork) -> None:
    user = new_subject()

    async def fail_after_writing() -> None:
        async with unit_of_work(user) as store:
            await _keep(store, "I like tea")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_writing()

    async with unit_of_work(user) as store:
        assert await store.count() == 0


async def test_a_run_is_queued_once_and_stored_once(unit_of_work: UnitOfWork) -> None:
    turn = _turn()
    async with unit_of_work(new_subject()) as store:
        assert await store.queue(turn)
        assert not await store.queue(turn)
        assert await _queued(store) == 1

        assert await store.close_run(turn.run_id)

        assert not await store.close_run(turn.run_id)
        assert not await store.queue(turn)


async def test_a_run_that_never_came_may_store_nothing(unit_of_work: UnitOfWork) -> None:
    async with unit_of_work(new_subject()) as store:
        assert not await store.close_run(new_id())


async def test_a_dropped_queue_stores_nothing_and_takes_the_same_run_no_more(unit_of_work: UnitOfWork) -> None:
    turn = _turn()
    async with unit_of_work(new_subject()) as store:
        await store.queue(turn)

        await store.forget()

        assert await _queued(store) == 0
        assert not await store.close_run(turn.run_id)
        assert not await store.queue(turn)


async def test_dropping_leaves_the_queues_of_others(unit_of_work: UnitOfWork) -> None:
    other, turn = new_subject(), _turn()
    async with unit_of_work(other) as store:
        await store.queue(turn)

    async with unit_of_work(new_subject()) as store:
        await store.forget()

    async with unit_of_work(other) as store:
        assert await store.close_run(turn.run_id)
        assert await _queued(store) == 1


async def test_the_lock_of_a_user_is_held_to_the_end_of_the_transaction(unit_of_work: UnitOfWork) -> None:
    user, seen = new_subject(), []
    is_locked = asyncio.Event()

    async def first(subject: Subject) -> None:
        async with unit_of_work(subject) as store:
            await store.lock()
            is_locked.set()
            await _keep(store, "I like tea")
            # Gives the other transaction time to overtake, if it could.
            async with unit_of_work(new_subject()) as bystander:
                await bystander.lock()

    async def second(subject: Subject) -> None:
        await is_locked.wait()
        async with unit_of_work(subject) as store:
            await store.lock()
            seen.append(await store.count())

    async with asyncio.TaskGroup() as group:
        group.create_task(first(user))
        group.create_task(second(user))

    assert seen == [1]
