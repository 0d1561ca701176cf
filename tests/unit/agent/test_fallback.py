"""Which model answers: models are called in order, and retried or skipped only before the first token."""

from dataclasses import replace
from datetime import timedelta

from fakes.agent.chat_models import ScriptedChatModel
from fakes.agent.fallback_run import LARGE, QUESTION, SMALL, Run, a_schema, away, cut_off, refused
from fakes.agent.loop_time import in_jumping_time
from mesh_agent.domain.runs import Usage
from mesh_agent.llm.token_estimate import messages_tokens
from mesh_agent.plans.plan import ToolSchema


async def test_the_first_model_answers_and_no_other_is_asked() -> None:
    run = Run(large=ScriptedChatModel(["Fine."]))

    answer = await run.answer()

    assert (answer.message.content, answer.model, answer.finish_reason) == ("Fine.", LARGE, "stop")
    assert (run.asked, run.heard) == (["large"], ["Fine."])


@in_jumping_time
async def test_the_next_model_answers_when_the_first_stays_away() -> None:
    run = Run(large=ScriptedChatModel([away(), away(), away()]), small=ScriptedChatModel(["Fine."]))

    answer = await run.answer()

    assert answer.model == SMALL
    assert (run.asked, run.heard) == (["large", "small"], ["Fine."])


@in_jumping_time
async def test_a_model_is_tried_three_times_with_pauses() -> None:
    run = Run(large=ScriptedChatModel([away(), away(), "Fine."]))

    answer = await run.answer()

    first, second, third = run.large.asked_at
    assert answer.model == LARGE
    assert run.asked == ["large"]
    assert 0.0 < second - first < 1.0
    assert 0.0 < third - second < 2.3


@in_jumping_time
async def test_a_provider_that_says_when_to_come_back_is_obeyed() -> None:
    run = Run(large=ScriptedChatModel([away(retry_after_s=2.0), away(retry_after_s=0.0), "Fine."]))

    await run.answer()

    assert run.large.asked_at == [0.0, 2.0, 2.0]


async def test_a_provider_that_asks_for_much_patience_is_passed_over_at_once() -> None:
    run = Run(large=ScriptedChatModel([away(retry_after_s=2.1)]), small=ScriptedChatModel(["Fine."]))

    answer = await run.answer()

    assert answer.model == SMALL
    assert len(run.large.asked_at) == 1


async def test_a_refusal_is_not_repeated_to_the_same_model() -> None:
    run = Run(large=ScriptedChatModel([refused()]), small=ScriptedChatModel(["Fine."]))

    answer = await run.answer()

    assert answer.model == SMALL
    assert len(run.large.asked_at) == 1


async def test_an_answer_that_began_is_never_mixed_with_another() -> None:
    run = Run(large=ScriptedChatModel([cut_off(), "Fine."]), small=ScriptedChatModel(["Fine."]))

    failure = await run.failure()

    assert failure.reason == "MODEL_CUT_OFF"
    assert (run.asked, run.heard) == (["large"], ["Well"])


async def test_when_all_fail_the_last_failure_is_told() -> None:
    run = Run(large=ScriptedChatModel([away(retry_after_s=9.0)]), small=ScriptedChatModel([refused()]))

    assert (await run.failure()).reason == "MODEL_REFUSED"
    assert run.asked == ["large", "small"]


async def test_a_model_that_kept_failing_is_passed_over() -> None:
    run = Run(small=ScriptedChatModel(["Fine."]))
    await run.break_large()

    answer = await run.answer()

    assert answer.model == SMALL
    assert run.asked == ["small"]


async def test_after_its_pause_a_broken_model_is_asked_again_and_taken_back() -> None:
    run = Run()
    await run.break_large()
    run.clock.advance(timedelta(seconds=15))
    run.large.script += ["Better.", "Fine."]

    answers = [await run.answer() for _ in range(2)]

    assert [answer.model for answer in answers] == [LARGE, LARGE]


async def test_a_broken_model_nobody_needed_is_not_taken_for_tried() -> None:
    """After its pause one caller may try it. A caller that got its answer from another model did not, and must not
    use up the trial."""
    run = Run()
    await run.break_large()
    run.clock.advance(timedelta(seconds=15))
    run.small.script += ["Fine.", refused()]
    run.large.script.append("Better.")
    await run.answer(models=(SMALL, LARGE))

    answer = await run.answer(models=(SMALL, LARGE))

    assert answer.model == LARGE


async def test_when_every_model_is_broken_they_are_asked_all_the_same() -> None:
    run = Run()
    await run.break_large()
    run.large.script.append("Fine.")

    assert (await run.answer(models=(LARGE,))).model == LARGE


async def test_refusals_say_nothing_about_a_model() -> None:
    """A refusal concerns one request, possibly of one user. Others must still get the model."""
    run = Run(large=ScriptedChatModel([refused() for _ in range(10)]))
    for _ in range(10):
        await run.failure(models=(LARGE,))
    run.large.script.append("Fine.")

    assert (await run.answer()).model == LARGE


async def test_a_refusal_shows_that_a_broken_model_is_back() -> None:
    run = Run()
    await run.break_large()
    run.clock.advance(timedelta(seconds=15))
    run.large.script += [refused(), "Fine."]
    await run.failure(models=(LARGE,))

    assert (await run.answer()).model == LARGE


async def test_tools_are_offered_to_models_that_can_use_them() -> None:
    run = Run(large=ScriptedChatModel([refused()]), small=ScriptedChatModel(["Fine."]))

    await run.answer(tools=(a_schema("calculate"),))

    assert (run.large.asked_with, run.small.asked_with) == ((a_schema("calculate"),), ())


async def test_tools_of_one_name_are_offered_by_their_content() -> None:
    """Two runs may have started with different tools of the same name."""
    run = Run(large=ScriptedChatModel(["One."] * 4))
    sets: list[tuple[ToolSchema, ...]] = [
        (a_schema("look_up", "In the old index."),),
        (a_schema("look_up", "In the new index."),),
        (),
        (a_schema("look_up", "In the old index."),),
    ]
    offered = []

    for tools in sets:
        await run.answer(models=(LARGE,), tools=tools)
        offered.append(run.large.asked_with)

    assert offered == sets


async def test_an_answer_is_bounded_as_the_plan_says() -> None:
    run = Run(large=ScriptedChatModel(["Fine."]))

    await run.answer(models=(replace(LARGE, max_output_tokens=50),))

    assert run.large.max_output_tokens == 50


async def test_usage_is_what_the_provider_tells_at_the_models_prices() -> None:
    run = Run(large=ScriptedChatModel(["Fine."], usage=(10, 20)))

    assert (await run.answer()).usage == Usage(10, 20, 50)


async def test_usage_nobody_told_is_estimated_and_never_free() -> None:
    run = Run(large=ScriptedChatModel(["Fine."], usage=None))

    read = messages_tokens(QUESTION)

    assert read > 0
    assert (await run.answer()).usage == Usage(read, 1, read + 2)
