"""Asks models in order until one answers. Retries and falls back only before the first token: never a mixed answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import structlog
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import count_tokens_approximately
from mesh_common.process.telemetry import tracer
from mesh_common.retrying import with_retries
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from tenacity.wait import wait_base

from mesh_agent.domain import Usage
from mesh_agent.llm.breaker import Breaker
from mesh_agent.llm.chat_model import ChatAnswer, StreamingChatModel
from mesh_agent.llm.completion_stream import TextListener
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.llm.registry import Model
from mesh_agent.metrics import MODEL_CALLS
from mesh_agent.plans.plan import ToolSchema

log = structlog.get_logger()

_TRIES = 3
# A provider that asks for more patience than this is passed over for the next model.
_MAX_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    message: AIMessage
    model: Model
    usage: Usage
    finish_reason: str


class ModelListener(TextListener, Protocol):
    def on_model(self, model: Model) -> None:
        """This model is asked now, and has said nothing yet."""


class FallbackModel:
    """One per process: chat models by name, with their breakers."""

    def __init__(self, chat_models: dict[str, StreamingChatModel], breaker: Breaker) -> None:
        self._chat_models = chat_models
        self._breaker = breaker

    async def answer(
        self,
        models: Sequence[Model],
        messages: list[BaseMessage],
        tools: Sequence[ToolSchema],
        listener: ModelListener,
    ) -> ModelAnswer:
        """The first model's answer that comes whole. Raises the last ProviderError when none gives one."""
        failure: ProviderError | None = None
        try:
            for model in self._candidates(models):
                listener.on_model(model)
                try:
                    return await self._ask(model, messages, tools, listener)
                except ProviderError as error:
                    log.warning("model.failed", model=model.name, reason=error.reason, spoke=error.has_spoken)
                    if error.has_spoken:
                        raise
                    failure = error
            raise failure or AssertionError("no model to ask")
        finally:
            # Its traceback holds this frame: a cycle, with the run and its history in it.
            del failure

    def _candidates(self, models: Sequence[Model]) -> Iterator[Model]:
        """Those whose breaker lets them through, or all when none is.

        The breaker is asked of a model only when its turn has come: after the pause one caller gets to try it, and
        that must be one who does.
        """
        is_any_asked = False
        for model in models:
            if not self._breaker.is_open(model.name):
                is_any_asked = True
                yield model
        if not is_any_asked:
            yield from models

    async def _ask(
        self,
        model: Model,
        messages: list[BaseMessage],
        tools: Sequence[ToolSchema],
        listener: ModelListener,
    ) -> ModelAnswer:
        ask_once = partial(self._ask_once, model, messages, tools, listener)
        try:
            answer = await with_retries(ask_once, _retrying, on=ProviderError)
        except ProviderError as error:
            # A refusal says something about the request, which may be one user's; the model is well.
            note = self._breaker.failed if error.is_retryable else self._breaker.succeeded
            note(model.name)
            raise
        self._breaker.succeeded(model.name)
        return answer

    async def _ask_once(
        self,
        model: Model,
        messages: list[BaseMessage],
        tools: Sequence[ToolSchema],
        listener: ModelListener,
    ) -> ModelAnswer:
        chat_model = self._chat_models[model.name]
        offered = tools if "tools" in model.capabilities else ()
        with tracer.start_as_current_span(
            f"chat {model.provider_model}", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as span:
            _describe_request(span, model)
            try:
                told = await chat_model.ask(messages, listener, offered, model.max_output_tokens)
            except ProviderError as error:
                span.set_status(Status(StatusCode.ERROR, error.reason))
                MODEL_CALLS.labels(model.name, error.reason).inc()
                raise
            answer = _answer(model, messages, told)
            _observe(span, answer, told.completion.model or model.provider_model)
            return answer


def _answer(model: Model, messages: list[BaseMessage], told: ChatAnswer) -> ModelAnswer:
    usage = told.message.usage_metadata
    input_tokens = usage["input_tokens"] if usage else count_tokens_approximately(messages)
    output_tokens = usage["output_tokens"] if usage else told.completion.chunks
    finish_reason = told.completion.finish_reason or "stop"
    return ModelAnswer(told.message, model, model.usage(input_tokens, output_tokens), finish_reason)


def _describe_request(span: Span, model: Model) -> None:
    # https://opentelemetry.io/docs/specs/semconv/gen-ai/: names of attributes; prompts and answers stay out.
    span.set_attributes(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model.provider_model,
            "gen_ai.request.max_tokens": model.max_output_tokens,
        }
    )


def _observe(span: Span, answer: ModelAnswer, response_model: str) -> None:
    usage = answer.usage
    span.set_attributes(
        {
            "gen_ai.response.model": response_model,
            "gen_ai.response.finish_reasons": [answer.finish_reason],
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
        }
    )
    MODEL_CALLS.labels(answer.model.name, "OK").inc()


def _retrying() -> AsyncRetrying:
    return AsyncRetrying(
        stop=stop_after_attempt(_TRIES),
        wait=_WAIT,
        retry=retry_if_exception(_is_worth_a_retry),
        reraise=True,
    )


def _is_worth_a_retry(error: BaseException) -> bool:
    return (
        isinstance(error, ProviderError)
        and error.is_retryable
        and not error.has_spoken
        and (error.retry_after_s or 0.0) <= _MAX_RETRY_AFTER_S
    )


class _wait_as_told(wait_base):  # noqa: N801 - tenacity names its waits so
    """The provider's Retry-After when it gave one, else exponential back-off with jitter."""

    def __init__(self) -> None:
        self._backoff = wait_exponential_jitter(multiplier=0.2, max=2.0, jitter=0.2)

    def __call__(self, retry_state: Any) -> float:
        error = retry_state.outcome.exception()
        told_s: float | None = getattr(error, "retry_after_s", None)
        return told_s if told_s is not None else self._backoff(retry_state)


_WAIT: Final = _wait_as_told()
