"""After a timeout the next model is called at once, and no wait reaches the deadline."""

import pytest
from fakes.agent.chat_models import ScriptedChatModel
from fakes.agent.fallback_run import LARGE, SMALL, Run, away, misconfigured, silent
from fakes.agent.loop_time import in_jumping_time
from mesh_agent.llm.provider_errors import ProviderError


@in_jumping_time
async def test_after_a_timeout_the_next_model_is_asked_at_once() -> None:
    run = Run(large=ScriptedChatModel([silent()]), small=ScriptedChatModel(["Fine."]))

    answer = await run.answer()

    assert answer.model == SMALL
    assert (run.large.asked_at, run.small.asked_at) == ([0.0], [0.0])


@in_jumping_time
async def test_after_a_timeout_a_model_is_asked_again_if_it_is_the_only_one() -> None:
    run = Run(large=ScriptedChatModel([silent(), "Fine."]))

    assert (await run.answer(models=(LARGE,))).model == LARGE


@in_jumping_time
async def test_after_a_timeout_a_model_is_asked_again_if_all_others_are_broken() -> None:
    run = Run(small=ScriptedChatModel([silent(), "Fine."]))
    await run.break_large()

    assert (await run.answer()).model == SMALL
    assert run.asked == ["small"]


@in_jumping_time
async def test_after_a_timeout_the_next_model_is_asked_at_once_if_all_are_broken() -> None:
    """All are tried then, so each has another after it or before it."""
    run = Run(large=ScriptedChatModel([misconfigured(), silent()]), small=ScriptedChatModel([misconfigured(), "Fine."]))
    with pytest.raises(ProviderError):
        await run.answer()

    answer = await run.answer()

    assert answer.model == SMALL
    assert run.asked == ["large", "small", "large", "small"]


@in_jumping_time
async def test_the_only_model_is_waited_for_longer() -> None:
    run = Run(large=ScriptedChatModel([away(retry_after_s=4.0), "Fine."]))

    await run.answer(models=(LARGE,))

    assert run.large.asked_at == [0.0, 4.0]


@in_jumping_time
async def test_no_wait_reaches_the_deadline() -> None:
    """The next model still has the rest of the time."""
    run = Run(large=ScriptedChatModel([away(retry_after_s=2.0)]), small=ScriptedChatModel(["Fine."]))

    answer = await run.answer(deadline_s=2.0)

    assert answer.model == SMALL
    assert (run.large.asked_at, run.small.asked_at) == ([0.0], [0.0])


@in_jumping_time
async def test_wait_that_ends_before_the_deadline_is_kept() -> None:
    run = Run(large=ScriptedChatModel([away(retry_after_s=2.0), "Fine."]))

    await run.answer(deadline_s=2.1)

    assert run.large.asked_at == [0.0, 2.0]


@in_jumping_time
async def test_runs_that_get_no_answer_do_not_switch_a_model_off_for_others() -> None:
    """The reason may be what one user asks."""
    nothing = [ProviderError("EMPTY_ANSWER", is_retryable=True) for _ in range(18)]
    run = Run(large=ScriptedChatModel([*nothing, "Fine."]))
    for _ in range(6):
        with pytest.raises(ProviderError):
            await run.answer(models=(LARGE,))

    assert (await run.answer()).model == LARGE
