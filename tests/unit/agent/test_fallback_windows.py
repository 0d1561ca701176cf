"""Each model receives what fits its budget, and less if the provider still finds it too long."""

from fakes.agent.chat_models import ScriptedChatModel
from fakes.agent.fallback_run import LARGE, Run, a_schema, away, refused, too_long
from fakes.agent.runs import a_model
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from mesh_agent.llm.token_estimate import messages_tokens

TALK: list[BaseMessage] = [
    SystemMessage("Be brief."),
    *(HumanMessage(f"{number} " + "word " * 200) for number in range(20)),
    HumanMessage("Now"),
]


async def test_a_context_that_the_provider_finds_too_long_is_halved_once() -> None:
    run = Run(large=ScriptedChatModel([too_long(), "Fine."]))

    answer = await run.answer(models=(LARGE,), messages=TALK)

    whole, half = map(messages_tokens, run.large.received)
    assert answer.model == LARGE
    assert 0.4 < half / whole <= 0.5
    assert run.large.received[1][-1] == HumanMessage("Now")


async def test_a_context_that_was_halved_stays_so_when_the_model_is_asked_again() -> None:
    run = Run(large=ScriptedChatModel([too_long(), away(0.0), "Fine."]))

    await run.answer(models=(LARGE,), messages=TALK)

    whole, *others = map(messages_tokens, run.large.received)
    assert len(others) == 2
    assert all(tokens <= whole / 2 for tokens in others)


async def test_a_context_that_stays_too_long_is_reported_when_no_model_can_read_it() -> None:
    run = Run(large=ScriptedChatModel([too_long(), too_long()]), small=ScriptedChatModel([too_long(), too_long()]))

    assert (await run.failure(messages=TALK)).reason == "CONTEXT_TOO_LONG"
    assert (len(run.large.received), len(run.small.received)) == (2, 2)


async def test_a_question_alone_is_not_sent_again_if_it_is_too_long() -> None:
    run = Run(large=ScriptedChatModel([too_long()]))

    assert (await run.failure(models=(LARGE,))).reason == "CONTEXT_TOO_LONG"


async def test_each_model_receives_what_fits_it() -> None:
    tiny = a_model("small", context_tokens=2_000, capabilities=())
    run = Run(large=ScriptedChatModel([refused()]), small=ScriptedChatModel(["Fine."]))

    await run.answer(models=(LARGE, tiny), messages=TALK)

    [[large], [small]] = run.large.received, run.small.received
    assert large == TALK
    assert 800 < messages_tokens(small) <= tiny.input_budget_tokens


async def test_offered_tools_count_as_input() -> None:
    tools = (a_schema("look_up", "word " * 500),)
    tight = a_model("large", context_tokens=messages_tokens(TALK) + 1_100)
    run = Run(large=ScriptedChatModel(["Fine."] * 2))

    await run.answer(models=(tight,), messages=TALK)
    await run.answer(models=(tight,), messages=TALK, tools=tools)

    without, with_tools = map(messages_tokens, run.large.received)
    assert without - with_tools >= 500


async def test_a_model_that_cannot_read_the_message_is_passed_over() -> None:
    """It would be paid for an error, or, as with Ollama, silently read only the end."""
    tiny = a_model("small", context_tokens=600)
    message: list[BaseMessage] = [SystemMessage(""), HumanMessage("word " * 1_000)]
    run = Run(large=ScriptedChatModel(["Fine."]))

    answer = await run.answer(models=(tiny, LARGE), messages=message)

    assert (answer.model, run.asked) == (LARGE, ["large"])


async def test_when_no_model_seems_large_enough_they_are_asked_all_the_same() -> None:
    """Only the provider counts exactly."""
    tiny = a_model("small", context_tokens=600)
    run = Run(small=ScriptedChatModel(["Fine."]))

    assert (await run.answer(models=(tiny,), messages=[HumanMessage("word " * 1_000)])).model == tiny
