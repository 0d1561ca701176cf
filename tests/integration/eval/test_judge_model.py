"""The adapter of the judge against an OpenAI-compatible server that misbehaves."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from mesh_common.errors import Unavailable
from mesh_eval.bootstrap import _open_http
from mesh_eval.domain import InvalidAnswer, parse_verdict
from mesh_eval.judges.model import OpenAIJudgeModel
from mesh_eval.ports import Question
from mesh_eval.settings import EvalSettings
from pydantic import SecretStr
from simulator.client import SimulatorAdmin
from support.net import free_port
from support.spans import RecordedSpans

QUESTION = Question(prompt="Judge it.", texts="BEGIN ANSWER c0de\nHello.\nEND ANSWER c0de", temperature=0.0)


@pytest.fixture
async def http(settings: EvalSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with _open_http(settings) as client:
        yield client


@pytest.fixture
def waits() -> list[float]:
    """The times that the adapter would have slept, in seconds."""
    return []


@pytest.fixture
def model(http: httpx.AsyncClient, settings: EvalSettings, waits: list[float]) -> OpenAIJudgeModel:
    return _model(http, settings, waits)


def _model(http: httpx.AsyncClient, settings: EvalSettings, waits: list[float]) -> OpenAIJudgeModel:
    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    return OpenAIJudgeModel(http, settings, sleep)


def _rule(times: int | None = None, **action: Any) -> dict[str, Any]:
    return {"match": {"structured": True} | ({"times": times} if times else {}), "action": action}


async def test_the_judge_answers_by_the_schema(model: OpenAIJudgeModel, simulator: SimulatorAdmin) -> None:
    verdict = parse_verdict(await model.answer(QUESTION))

    (request,) = await simulator.requests()
    body = request["body"]
    assert 0 <= verdict.value <= 1
    assert body["model"] == "sim-small"
    assert body["max_tokens"] == 200
    assert body["messages"] == [
        {"role": "system", "content": QUESTION.prompt},
        {"role": "user", "content": QUESTION.texts},
    ]
    assert body["response_format"]["json_schema"]["schema"]["properties"].keys() == {"reasoning", "score"}


@pytest.mark.parametrize("fault", ["429", "500", "503"])
async def test_an_overloaded_provider_is_asked_again(
    model: OpenAIJudgeModel, simulator: SimulatorAdmin, waits: list[float], fault: str
) -> None:
    await simulator.put_rules([_rule(times=2, fault=fault)])

    answer = await model.answer(QUESTION)

    assert 0 <= parse_verdict(answer).value <= 1
    assert len(waits) == 2


async def test_retry_after_is_respected(model: OpenAIJudgeModel, simulator: SimulatorAdmin, waits: list[float]) -> None:
    await simulator.put_rules([_rule(times=1, fault="429", retry_after_s=7)])

    await model.answer(QUESTION)

    assert waits == [7.0]


async def test_a_long_retry_after_is_left_to_the_queue(
    model: OpenAIJudgeModel, simulator: SimulatorAdmin, waits: list[float]
) -> None:
    await simulator.put_rules([_rule(fault="429", retry_after_s=60)])

    with pytest.raises(Unavailable) as raised:
        await model.answer(QUESTION)

    assert raised.value.retry_after_s == 60
    assert not waits


async def test_a_provider_that_stays_overloaded_is_unavailable_after_three_tries(
    model: OpenAIJudgeModel, simulator: SimulatorAdmin
) -> None:
    await simulator.put_rules([_rule(fault="500")])

    with pytest.raises(Unavailable):
        await model.answer(QUESTION)

    assert len(await simulator.requests()) == 3


async def test_a_provider_that_hangs_is_unavailable_within_the_timeout(
    http: httpx.AsyncClient, settings: EvalSettings, simulator: SimulatorAdmin
) -> None:
    await simulator.put_rules([_rule(fault="hang")])
    model = _model(http, settings.model_copy(update={"judge_timeout_s": 0.05}), [])

    with pytest.raises(Unavailable):
        await model.answer(QUESTION)

    # It may have been paid for, so it is left to the queue, which counts such calls.
    assert [request["outcome"] for request in await simulator.requests()] == ["client_left"]


async def test_a_provider_that_is_not_there_is_unavailable(settings: EvalSettings) -> None:
    nowhere = settings.model_copy(update={"openai_base_url": f"http://127.0.0.1:{free_port()}/v1"})

    async with _open_http(nowhere) as http:
        with pytest.raises(Unavailable):
            await _model(http, nowhere, []).answer(QUESTION)


@pytest.mark.parametrize("fault", ["garbage", "cut", "end_early"])
async def test_what_a_broken_provider_sends_is_never_a_verdict(
    model: OpenAIJudgeModel, simulator: SimulatorAdmin, fault: str
) -> None:
    await simulator.put_rules([_rule(fault=fault)])

    with pytest.raises((InvalidAnswer, Unavailable)):
        parse_verdict(await model.answer(QUESTION))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"choices": []}, "no text"),
        ({"choices": [{"message": {"content": None, "refusal": "I won't."}}]}, "no text"),
        ({"error": "what"}, "no text"),
        ([], "not a JSON object"),
    ],
)
async def test_an_envelope_without_text_is_an_invalid_answer(settings: EvalSettings, body: object, why: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body))

    async with httpx.AsyncClient(transport=transport, base_url="http://judge/v1") as http:
        with pytest.raises(InvalidAnswer, match=why):
            await _model(http, settings, []).answer(QUESTION)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_question_is_final(settings: EvalSettings, status: int) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status))

    async with httpx.AsyncClient(transport=transport, base_url="http://judge/v1") as http:
        with pytest.raises(InvalidAnswer) as raised:
            await _model(http, settings, []).answer(QUESTION)

    assert raised.value.is_final


@pytest.mark.parametrize("status", [401, 403, 404, 302])
async def test_a_wrong_key_or_address_brings_the_job_back_later_without_hammering(
    settings: EvalSettings, status: int
) -> None:
    calls: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(status)

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url="http://judge/v1") as http:
        with pytest.raises(Unavailable) as raised:
            await _model(http, settings, []).answer(QUESTION)

    assert raised.value.reason == "JUDGE_MISCONFIGURED"
    assert len(calls) == 1


async def test_the_key_is_sent_when_there_is_one(settings: EvalSettings) -> None:
    keyed = settings.model_copy(update={"openai_api_key": SecretStr("k-1")})

    async with _open_http(keyed) as with_key, _open_http(settings) as without:
        assert with_key.headers["authorization"] == "Bearer k-1"
        assert "authorization" not in without.headers


async def test_the_bound_of_the_reasoning_is_in_the_schema_by_setting(
    http: httpx.AsyncClient, settings: EvalSettings, simulator: SimulatorAdmin
) -> None:
    bounded = settings.model_copy(update={"judge_max_reasoning_chars": 120})

    await _model(http, bounded, []).answer(QUESTION)

    (request,) = await simulator.requests()
    schema = request["body"]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["reasoning"] == {"type": "string", "maxLength": 120}


async def test_the_span_of_the_model_has_its_names_and_no_text(
    model: OpenAIJudgeModel, simulator: SimulatorAdmin, spans: RecordedSpans
) -> None:
    await model.answer(QUESTION)

    (request,) = await simulator.requests()
    attributes = dict(spans.named("chat sim-small").attributes or {})
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.request.model"] == "sim-small"
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["gen_ai.usage.output_tokens"] == request["tokens"]
    assert "Hello." not in str(attributes)


async def test_each_failed_try_is_a_span_with_an_error(
    model: OpenAIJudgeModel, simulator: SimulatorAdmin, spans: RecordedSpans
) -> None:
    await simulator.put_rules([_rule(times=1, fault="500")])

    await model.answer(QUESTION)

    assert [span.status.is_ok for span in spans.all()] == [False, True]


async def test_score_alone_is_asked_where_reasoning_may_have_no_length(
    http: httpx.AsyncClient, settings: EvalSettings, simulator: SimulatorAdmin
) -> None:
    silent = settings.model_copy(update={"judge_max_reasoning_chars": 0})

    verdict = parse_verdict(await _model(http, silent, []).answer(QUESTION), has_reasoning=False)

    (request,) = await simulator.requests()
    schema = request["body"]["response_format"]["json_schema"]["schema"]
    assert (list(schema["properties"]), schema["required"]) == (["score"], ["score"])
    assert verdict.reasoning == ""
