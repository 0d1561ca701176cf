"""The model that judges, at any OpenAI-compatible server. The only place that knows httpx and tenacity."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
import orjson
from mesh_common.errors import Unavailable
from mesh_common.process.telemetry import tracer
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from mesh_eval.domain import InvalidAnswer
from mesh_eval.ports import Question
from mesh_eval.settings import EvalSettings

# Not finer: judges are not, and llama.cpp's grammar holds a closed set but not the bounds of a number.
_SCORES: Final = [step / 10 for step in range(11)]
_TRIES: Final = 3
_BACKOFF = wait_random_exponential(multiplier=0.5, max=5.0)
# A provider that wants more patience than this gets the job back later instead of a worker that waits.
_MAX_RETRY_AFTER_S: Final = 10.0
_OVERLOADED: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
# What the request itself is to blame for: too long for the model, or its content is refused.
_REFUSED: Final = frozenset({400, 413, 422})


class _ProviderTrouble(Unavailable):
    """The provider is away or overloaded. `retry_after_s` is what it asked for, if it did."""


class OpenAIJudgeModel:
    """Asks one model; each try within `timeout_s`, three tries while the provider is in trouble."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        settings: EvalSettings,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = settings.judge_model
        self._http = http
        self._max_tokens = settings.judge_max_tokens
        self._timeout_s = settings.judge_timeout_s
        self._response_format = _response_format(settings.judge_max_reasoning_chars)
        self._sleep = sleep

    async def answer(self, question: Question) -> str:
        """See `JudgeModel.answer`."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_worth_another_try),
            stop=stop_after_attempt(_TRIES),
            wait=_wait_s,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(self._ask, question)

    async def _ask(self, question: Question) -> str:
        with tracer.start_as_current_span(
            f"chat {self.name}",
            kind=SpanKind.CLIENT,
            attributes=self._attributes(question),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                answer = _content_of(span, _body_of(await self._post(question)))
            except (Unavailable, InvalidAnswer) as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__.lstrip("_")))
                raise
        return answer

    async def _post(self, question: Question) -> httpx.Response:
        body = {
            "model": self.name,
            "messages": [
                {"role": "system", "content": question.prompt},
                {"role": "user", "content": question.texts},
            ],
            "temperature": question.temperature,
            "max_tokens": self._max_tokens,
            "response_format": self._response_format,
        }
        try:
            # httpx limits each read; a server that trickles would never exceed that.
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.post("chat/completions", json=body)
        except (httpx.TransportError, TimeoutError) as error:
            raise _ProviderTrouble("The judge cannot be reached.", reason="JUDGE_UNAVAILABLE") from error
        _raise_for(response)
        return response

    def _attributes(self, question: Question) -> dict[str, str | float]:
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": self.name,
            "gen_ai.request.temperature": question.temperature,
            "gen_ai.request.max_tokens": self._max_tokens,
            "gen_ai.output.type": "json",
            "server.address": self._http.base_url.host,
        }


def _response_format(max_reasoning_chars: int | None) -> dict[str, Any]:
    # No keyword more than needed: providers differ in those they take, and one they do not know fails the request.
    bound = {"maxLength": max_reasoning_chars} if max_reasoning_chars else {}
    reasoning = {} if max_reasoning_chars == 0 else {"reasoning": {"type": "string", **bound}}
    properties: dict[str, Any] = {**reasoning, "score": {"type": "number", "enum": _SCORES}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def _raise_for(response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    if status in _REFUSED:
        raise InvalidAnswer(f"refused with {status}", is_final=True)
    if status in _OVERLOADED:
        raise _ProviderTrouble(
            "The judge is overloaded.", reason="JUDGE_UNAVAILABLE", retry_after_s=_retry_after_s(response)
        )
    # A wrong key, model or address: it stays wrong for this job, and is put right while the job waits.
    raise Unavailable(f"The judge refused the call with {status}.", reason="JUDGE_MISCONFIGURED")


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def _is_worth_another_try(error: BaseException) -> bool:
    return isinstance(error, _ProviderTrouble) and (error.retry_after_s or 0.0) <= _MAX_RETRY_AFTER_S


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, _ProviderTrouble) else None
    return max(asked_s or 0.0, _BACKOFF(state))


def _body_of(response: httpx.Response) -> dict[str, Any]:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise InvalidAnswer("the provider sent no JSON") from error
    if not isinstance(body, dict):
        raise InvalidAnswer("the provider sent no JSON object")
    return body


def _content_of(span: Span, body: dict[str, Any]) -> str:
    match body:
        case {"choices": [{"message": {"content": str(content)}} as choice, *_]}:
            _describe_answer(span, body, choice)
            return content
        case _:
            raise InvalidAnswer("the provider sent no text")


def _describe_answer(span: Span, body: dict[str, Any], choice: dict[str, Any]) -> None:
    if isinstance(model := body.get("model"), str):
        span.set_attribute("gen_ai.response.model", model)
    if isinstance(reason := choice.get("finish_reason"), str):
        span.set_attribute("gen_ai.response.finish_reasons", [reason])
    usage = body.get("usage")
    for ours, theirs in (("input", "prompt"), ("output", "completion")):
        if isinstance(usage, dict) and isinstance(count := usage.get(f"{theirs}_tokens"), int):
            span.set_attribute(f"gen_ai.usage.{ours}_tokens", count)
