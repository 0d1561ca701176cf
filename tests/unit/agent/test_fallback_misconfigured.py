"""A misconfigured model is skipped, an operator is called once, and other errors are not hidden."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import structlog
from fakes.agent.chat_models import ScriptedChatModel
from fakes.agent.fallback_run import LARGE, SMALL, Run, away, misconfigured, too_long
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.metrics import MODEL_MISCONFIGURED


async def test_misconfigured_model_is_skipped_by_the_next_run() -> None:
    run = Run(large=ScriptedChatModel([misconfigured()]), small=ScriptedChatModel(["Fine."] * 2))

    answers = [await run.answer() for _ in range(2)]

    assert [answer.model for answer in answers] == [SMALL, SMALL]
    assert run.asked == ["large", "small", "small"]


async def test_misconfigured_model_calls_the_operator_once_until_it_works() -> None:
    run = Run(large=ScriptedChatModel([misconfigured(), misconfigured(), "Fine.", misconfigured()]))

    with structlog.testing.capture_logs() as logs:
        gauge = []
        for _ in range(4):
            with suppress(ProviderError):
                await run.answer(models=(LARGE,))
            gauge.append(MODEL_MISCONFIGURED.labels("large")._value.get())

    errors = [log for log in logs if log["log_level"] == "error"]
    assert [(log["event"], log["model"], log["status"]) for log in errors] == [
        ("model.misconfigured", "large", 401)
    ] * 2
    assert gauge == [1, 1, 0, 1]


@pytest.mark.parametrize("last", [misconfigured, too_long])
async def test_error_of_one_model_does_not_hide_that_another_may_answer_later(
    last: Callable[[], ProviderError],
) -> None:
    run = Run(large=ScriptedChatModel([away(retry_after_s=60.0)]), small=ScriptedChatModel([last()]))

    assert (await run.failure()).reason == "MODEL_UNAVAILABLE"


async def test_error_of_the_set_up_does_not_hide_that_the_conversation_is_too_long() -> None:
    run = Run(large=ScriptedChatModel([too_long()]), small=ScriptedChatModel([misconfigured()]))

    assert (await run.failure()).reason == "CONTEXT_TOO_LONG"
