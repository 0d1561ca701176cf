"""How often a turn is paid for: three answers in all, whatever restarts in between."""

import pytest
from mesh_common.errors import Unavailable
from mesh_memory.ports import UnreadableAnswer
from mesh_memory.usecases.keep_turn import KeepTurn
from prometheus_client import REGISTRY
from support.memory_on_fakes import LIMITS, USER, MemoryOnFakes
from support.turns import turn_of


def _given_up() -> float:
    return REGISTRY.get_sample_value("mesh_memory_turns_given_up_total") or 0.0


async def test_turn_is_given_up_after_three_unreadable_answers(service: MemoryOnFakes) -> None:
    turn, before = turn_of("I like tea."), _given_up()
    service.extractor.errors = [UnreadableAnswer() for _ in range(9)]
    await service.remember(USER, turn)

    for _ in range(2):
        # Each attempt is by a new process.
        with pytest.raises(UnreadableAnswer):
            await KeepTurn(service.unit_of_work, service.embedder, service.extractor, LIMITS)(USER, turn)
    await service.keep(USER, turn)
    await service.keep(USER, turn)

    assert service.extractor.calls == 3
    assert _given_up() == before + 1
    assert await service.texts() == []


async def test_third_answer_may_still_be_right(service: MemoryOnFakes) -> None:
    turn = turn_of("I like tea.")
    service.extractor.errors = [UnreadableAnswer(), UnreadableAnswer()]
    await service.remember(USER, turn)

    for _ in range(2):
        with pytest.raises(UnreadableAnswer):
            await service.keep(USER, turn)
    await service.keep(USER, turn)

    assert await service.texts() == ["I like tea."]


async def test_provider_that_does_not_answer_is_asked_for_longer(service: MemoryOnFakes) -> None:
    turn = turn_of("I like tea.")
    service.extractor.errors = [Unavailable("The extraction model does not answer.") for _ in range(20)]
    await service.remember(USER, turn)

    for _ in range(20):
        with pytest.raises(Unavailable):
            await service.keep(USER, turn)
    await service.keep(USER, turn)

    assert service.extractor.calls == 21
    assert await service.texts() == ["I like tea."]


async def test_process_that_dies_of_the_answer_is_not_started_forever(service: MemoryOnFakes) -> None:
    turn = turn_of("I like tea.")
    await service.remember(USER, turn)
    async with service.unit_of_work(USER) as store:
        for _ in range(3):
            # The process died after it had counted the call.
            await store.begin_extraction(turn.run_id)

    await service.keep(USER, turn)

    assert service.extractor.calls == 0
    assert await service.texts() == []
