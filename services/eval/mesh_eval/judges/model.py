"""The model that judges, on any OpenAI-compatible server. The only module that calls it through httpx and tenacity."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
import orjson
from mesh_common.clock import utc_now
from mesh_common.errors import Unavailable
from mesh_common.model_server import PossiblyPaid, Refusal, is_possibly_paid, refusal_of
from mesh_common.model_server_waits import requested_wait_s
from mesh_common.process.telemetry import tracer
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from mesh_eval.domain import InvalidAnswer
from mesh_eval.ports import Question
from mesh_eval.settings import EvalSettings

# Judges are not more precise than this, and llama.cpp's grammar enforces an enumeration but not the range of a number.
_SCORES: Final = [step / 10 for step in range(11)]
_TRIES: Final = 3
_BACKOFF = wait_random_exponential(multiplier=0.5, max=5.0)
# If a provider requests a longer wait, the job is retried later instead of blocking a worker.
_MAX_RETRY_AFTER_S: Final = 10.0


class _ProviderUnavailable(Unavailable):
    """The provider is unavailable or overloaded. `retry_after_s` is the wait that it requested, if any."""


class OpenAIJudgeModel:
    """Calls one model: each try within `timeout_s`, three tries while the provider is unavailable.

    A call whose answer may have been paid for is not repeated here: the queue counts such calls.
    """

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
            retry=retry_if_exception(_is_retryable),
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
            # httpx limits each single read, which a server that trickles never exceeds.
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.post("chat/completions", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _ProviderUnavailable("The judge cannot be reached.", reason="JUDGE_UNAVAILABLE") from error
        except (httpx.TransportError, TimeoutError) as error:
            raise PossiblyPaid("The judge does not answer.", reason="JUDGE_TIMEOUT") from error
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
    # Only the keywords needed: providers support different ones, and an unknown one fails the request.
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
    if response.is_success:
        return
    status = response.status_code
    if is_possibly_paid(status):
        raise PossiblyPaid("The judge does not answer.", reason="JUDGE_TIMEOUT")
    match refusal_of(status, response.content):
        case Refusal.RATE_LIMITED | Refusal.UNAVAILABLE:
            wait_s = requested_wait_s(response.headers, utc_now(), response.content)
            raise _ProviderUnavailable("The judge is overloaded.", reason="JUDGE_UNAVAILABLE", retry_after_s=wait_s)
        case Refusal.CONTEXT_TOO_LONG:
            raise InvalidAnswer(f"the texts are too long for the judge ({status})", is_final=True)
        case Refusal.REFUSED:
            raise InvalidAnswer(f"the provider rejected the request with {status}", is_final=True)
        case Refusal.MISCONFIGURED:
            # A wrong key, model or address. Retrying now would not help; the job waits until the operator has fixed it.
            raise Unavailable(f"The judge refused the call with {status}.", reason="JUDGE_MISCONFIGURED")


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, _ProviderUnavailable) and (error.retry_after_s or 0.0) <= _MAX_RETRY_AFTER_S


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    requested_s = error.retry_after_s if isinstance(error, _ProviderUnavailable) else None
    return max(requested_s or 0.0, _BACKOFF(state))


def _body_of(response: httpx.Response) -> dict[str, Any]:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise InvalidAnswer("the provider's answer is not JSON") from error
    if not isinstance(body, dict):
        raise InvalidAnswer("the provider's answer is not a JSON object")
    return body


def _content_of(span: Span, body: dict[str, Any]) -> str:
    match body:
        case {"choices": [{"message": {"content": str(content)}} as choice, *_]}:
            _describe_answer(span, body, choice)
            return content
        case _:
            raise InvalidAnswer("the provider's answer has no text")


def _describe_answer(span: Span, body: dict[str, Any], choice: dict[str, Any]) -> None:
    if isinstance(model := body.get("model"), str):
        span.set_attribute("gen_ai.response.model", model)
    if isinstance(reason := choice.get("finish_reason"), str):
        span.set_attribute("gen_ai.response.finish_reasons", [reason])
    usage = body.get("usage")
    for ours, theirs in (("input", "prompt"), ("output", "completion")):
        if isinstance(usage, dict) and isinstance(count := usage.get(f"{theirs}_tokens"), int):
            span.set_attribute(f"gen_ai.usage.{ours}_tokens", count)
