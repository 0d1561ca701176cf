"""Memories that users write, change and list."""

import pytest
from mesh_common.errors import NotFound, PreconditionFailed, QuotaExceeded
from mesh_memory.domain import Origin
from support.memory_on_fakes import USER, MemoryOnFakes
from support.subjects import some_subject
from support.turns import said


async def test_a_written_memory_is_returned_not_kept_twice(service: MemoryOnFakes) -> None:
    first = await service.edit.create(USER, "I like tea.")

    second = await service.edit.create(USER, "i like TEA.")

    assert second == first
    assert first.origin is Origin.WRITTEN


async def test_a_user_with_too_many_memories_is_refused_another(service: MemoryOnFakes) -> None:
    for text in ("My dog is Rex.", "I live in Rome.", "She plays chess."):
        await service.edit.create(USER, text)

    with pytest.raises(QuotaExceeded):
        await service.edit.create(USER, "Tea tastes good.")

    assert (await service.edit.create(USER, "my dog is rex.")).text == "My dog is Rex."


async def test_a_memory_is_found_by_its_new_text_after_an_update(service: MemoryOnFakes) -> None:
    memory = await service.edit.create(USER, "I live in Rome.")

    await service.edit.update(USER, memory.id, "My code word is zebra.")

    [found] = (await service.find.recall(USER, "code word", 5)).memories
    assert (found.id, found.text) == (memory.id, "My code word is zebra.")


async def test_the_memory_of_another_user_is_not_found(service: MemoryOnFakes) -> None:
    memory = await service.edit.create(USER, "I live in Rome.")
    stranger = some_subject()

    with pytest.raises(NotFound):
        await service.edit.get(stranger, memory.id)
    with pytest.raises(NotFound):
        await service.edit.update(stranger, memory.id, "Mine.")
    with pytest.raises(NotFound):
        await service.forget.one(stranger, memory.id)

    assert (await service.edit.get(USER, memory.id)).text == "I live in Rome."


async def test_pages_end_without_a_position(service: MemoryOnFakes) -> None:
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


async def test_memory_that_a_run_stores_names_the_run(service: MemoryOnFakes) -> None:
    message = said("Please remember that I like tea.")

    memory = await service.edit.create(USER, "The user likes tea.", message)

    assert (memory.origin, memory.run_id, memory.thread_id) == (
        Origin.EXTRACTED,
        message.source.run_id,
        message.source.thread_id,
    )


async def test_memory_of_a_run_is_not_stored_after_a_deletion(service: MemoryOnFakes) -> None:
    """The run began before it, so nothing it heard may come back."""
    message = said("Please remember that I like tea.", generation=0)
    await service.forget.all(USER)

    with pytest.raises(PreconditionFailed) as refused:
        await service.edit.create(USER, "The user likes tea.", message)

    assert refused.value.reason == "FORGOTTEN"
    assert await service.texts() == []


async def test_memory_of_a_run_in_a_deleted_thread_is_not_stored(service: MemoryOnFakes) -> None:
    message = said("Please remember that I like tea.")
    await service.forget.thread(USER, message.source.thread_id, None)

    with pytest.raises(PreconditionFailed):
        await service.edit.create(USER, "The user likes tea.", message)


async def test_what_the_user_writes_is_stored_after_a_deletion(service: MemoryOnFakes) -> None:
    await service.forget.all(USER)

    assert (await service.edit.create(USER, "I like tea.")).text == "I like tea."
