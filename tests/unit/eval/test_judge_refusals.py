"""What the judge makes of a model server's refusals."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import httpx
import pytest
from mesh_common.errors import Unavailable
from mesh_common.model_server import PossiblyPaid
from mesh_eval.domain import InvalidAnswer
from mesh_eval.judges.model import OpenAIJudgeModel
from mesh_eval.ports import Question
from mesh_eval.settings import EvalSettings

QUESTION = Question("Judge.", "BEGIN ANSWER\nYes.\nEND ANSWER", 0.0)
ANSWER = {"choices": [{"message": {"content": "0.9"}}]}


@dataclass
class _Settings:
    judge_model: str = "judge"
    judge_max_tokens: int = 100
    judge_timeout_s: float = 5.0
    judge_max_reasoning_chars: int | None = None


@dataclass
class Server:
    """Answers with these responses, in order, then with a verdict."""

    responses: Sequence[httpx.Response | httpx.TransportError]
    waits: list[float] = field(default_factory=list)
    calls: int = 0

    def _respond(self, _: httpx.Request) -> httpx.Response:
        self.calls += 1
        if self.calls > len(self.responses):
            return httpx.Response(200, json=ANSWER)
        response = self.responses[self.calls - 1]
        if isinstance(response, httpx.TransportError):
            raise response
        return response

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def ask(self) -> str:
        transport = httpx.MockTransport(self._respond)
        async with httpx.AsyncClient(transport=transport, base_url="http://judge/v1/") as http:
            return await OpenAIJudgeModel(http, cast("EvalSettings", _Settings()), self._sleep).answer(QUESTION)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503, 529])
async def test_temporary_refusal_is_retried(status: int) -> None:
    server = Server([httpx.Response(status)])

    assert await server.ask() == "0.9"
    assert server.calls == 2


@pytest.mark.parametrize(("text", "least_s"), [("7.5", 7.5), ("\u00b2", 0.0), ("-1", 0.0), ("nan", 0.0)])
async def test_requested_wait_is_kept_and_nonsense_is_ignored(text: str, least_s: float) -> None:
    server = Server([httpx.Response(503, headers=[(b"Retry-After", text.encode())])])

    assert await server.ask() == "0.9"
    assert least_s <= server.waits[0] <= max(least_s, 5.0)


@pytest.mark.parametrize("status", [307, 401, 403, 404, 405])
async def test_wrong_key_or_address_waits_for_an_operator(status: int) -> None:
    server = Server([httpx.Response(status)])

    with pytest.raises(Unavailable) as raised:
        await server.ask()

    assert (raised.value.reason, server.calls) == ("JUDGE_MISCONFIGURED", 1)


@pytest.mark.parametrize(("status", "code"), [(400, "x"), (422, "x"), (500, "context_length_exceeded")])
async def test_refused_request_is_final(status: int, code: str) -> None:
    server = Server([httpx.Response(status, json={"error": {"code": code}})])

    with pytest.raises(InvalidAnswer) as raised:
        await server.ask()

    assert raised.value.is_final
    assert server.calls == 1


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("x"), httpx.ReadError("x"), httpx.RemoteProtocolError("x"), 504])
async def test_call_that_may_be_paid_is_left_to_the_queue_which_counts_it(failure: httpx.TransportError | int) -> None:
    server = Server([httpx.Response(failure) if isinstance(failure, int) else failure])

    with pytest.raises(PossiblyPaid) as raised:
        await server.ask()

    assert (raised.value.reason, server.calls) == ("JUDGE_TIMEOUT", 1)


@pytest.mark.parametrize("failure", [httpx.ConnectError("x"), httpx.ConnectTimeout("x")])
async def test_judge_that_is_not_reached_is_tried_again(failure: httpx.TransportError) -> None:
    server = Server([failure])

    assert await server.ask() == "0.9"
