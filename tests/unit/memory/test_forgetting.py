"""Which turns a deletion covers. Clocks of two databases may disagree; numbers do not."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from mesh_common.clock import utc_now
from mesh_common.ids import new_id
from mesh_memory.domain import Barrier, Turn, uncovered
from support.memory_on_fakes import USER, MemoryOnFakes
from support.turns import as_one, said, source, turn_of

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
BEFORE, AFTER = NOON - timedelta(seconds=1), NOON + timedelta(seconds=1)
ONCE = Barrier(generation=1, forgotten_at=NOON)


@pytest.mark.parametrize(
    ("barrier", "generation", "said_at", "arrived_at", "is_covered"),
    [
        (Barrier(), None, BEFORE, AFTER, False),
        (Barrier(), 0, BEFORE, AFTER, False),
        # Said before, and the run knew the generation of that time, or none, or already the new one.
        (ONCE, 0, BEFORE, AFTER, True),
        (ONCE, None, BEFORE, AFTER, True),
        (ONCE, 1, BEFORE, AFTER, True),
        (ONCE, 1, NOON, AFTER, True),
        # The clock of the agent's database is ahead.
        (ONCE, 0, AFTER, AFTER, True),
        (ONCE, None, AFTER, BEFORE, True),
        # Said after.
        (ONCE, 1, AFTER, AFTER, False),
        (ONCE, None, AFTER, AFTER, False),
        # A release that does not send the time: when it arrived counts.
        (ONCE, None, None, BEFORE, True),
        (ONCE, None, None, AFTER, False),
        (Barrier(is_thread_forgotten=True), 0, AFTER, AFTER, True),
    ],
)
def test_barrier_covers_what_was_said_before_it(
    barrier: Barrier, generation: int | None, said_at: datetime | None, arrived_at: datetime, *, is_covered: bool
) -> None:
    of = source()
    message = said("I like tea.", of=type(of)(of.run_id, of.thread_id, of.message_id, said_at), generation=generation)

    assert barrier.covers(message, arrived_at) is is_covered


def test_of_several_runs_those_said_after_the_deletion_are_left() -> None:
    before, after = turn_of("I like tea.", "Very much.", said_at=BEFORE), turn_of("I live in Rome.", said_at=AFTER)

    left = uncovered(as_one(before, after), ONCE, AFTER)

    assert left == Turn(after.run_id, after.thread_id, after.messages)


async def test_turn_said_before_everything_was_deleted_is_not_queued(service: MemoryOnFakes) -> None:
    turn = turn_of("I like tea.", generation=0)
    await service.forget.all(USER)

    await service.remember(USER, turn)

    assert service.unit_of_work.queued(USER) == []
    assert service.wakes == 0


async def test_turn_said_before_one_memory_was_deleted_is_not_queued(service: MemoryOnFakes) -> None:
    memory = await service.edit.create(USER, "I like tea.")
    turn = turn_of("I do like tea.", generation=0)
    await service.forget.one(USER, memory.id)

    await service.remember(USER, turn)

    assert service.unit_of_work.queued(USER) == []


async def test_recall_returns_the_generation_that_later_turns_carry(service: MemoryOnFakes) -> None:
    first = await service.find.recall(USER, "tea", 5)
    await service.forget.all(USER)
    second = await service.find.recall(USER, "tea", 5)

    await service.kept("I like tea.")

    assert (first.forget_generation, second.forget_generation) == (0, 1)
    assert await service.texts() == ["I like tea."]


async def test_deletion_of_a_memory_that_does_not_exist_forgets_nothing(service: MemoryOnFakes) -> None:
    turn = turn_of("I like tea.")
    await service.remember(USER, turn)

    with pytest.raises(Exception, match="no such memory"):
        await service.forget.one(USER, new_id())

    await service.keep(USER, turn)
    assert await service.texts() == ["I like tea."]


@pytest.mark.parametrize("deletion", ["all", "one", "thread"])
async def test_deletion_while_the_facts_are_extracted_covers_them(service: MemoryOnFakes, deletion: str) -> None:
    other = await service.edit.create(USER, "I live in Rome.")
    turn = turn_of("I like tea.")
    await service.remember(USER, turn)
    service.extractor.hold()

    async with asyncio.TaskGroup() as group:
        group.create_task(service.keep(USER, turn))
        await service.extractor.started.wait()
        match deletion:
            case "all":
                await service.forget.all(USER)
            case "one":
                await service.forget.one(USER, other.id)
            case _:
                await service.forget.thread(USER, turn.thread_id, utc_now())
        service.extractor.go_on.set()

    assert "I like tea." not in await service.texts()


async def test_turn_of_a_deleted_thread_is_neither_queued_nor_processed(service: MemoryOnFakes) -> None:
    queued, kept = turn_of("I like tea."), turn_of("I live in Rome.")
    await service.remember(USER, queued)
    await service.remember(USER, kept)
    await service.forget.thread(USER, queued.thread_id, utc_now())

    for turn in (queued, kept):
        await service.keep(USER, turn)
    late = Turn(new_id(), queued.thread_id, queued.messages)
    await service.remember(USER, late)

    assert late not in service.unit_of_work.queued(USER)
    assert await service.texts() == ["I live in Rome."]


async def test_memory_stored_between_the_deletion_of_its_thread_and_the_message_about_it_is_deleted(
    service: MemoryOnFakes,
) -> None:
    before = await service.kept("I like tea.")
    deleted_at = utc_now()
    after = await service.kept("I live in Rome.")

    await service.forget.thread(USER, before.thread_id, deleted_at)
    await service.forget.thread(USER, after.thread_id, deleted_at)

    assert await service.texts() == ["I like tea."]
