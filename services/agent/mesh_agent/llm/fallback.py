"""Calls models in order until one answers. Retries and falls back only before the first token: never a mixed answer."""

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
from mesh_agent.llm.completion import TextListener
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.provider import ChatAnswer, ChatProvider
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.llm.registry import Model
from mesh_agent.metrics import MODEL_CALLS
from mesh_agent.plans.plan import ToolSchema

log = structlog.get_logger()

_TRIES = 3
# If a provider requests a longer wait, the next model is called instead.
_MAX_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    message: AIMessage
    model: Model
    usage: Usage
    finish_reason: str


class ModelListener(TextListener, Protocol):
    def on_model(self, model: Model) -> None:
        """This model is called now and has sent nothing yet."""


class FallbackModel:
    """The chat models by name, with their breakers. One per process."""

    def __init__(self, chat_models: dict[str, ChatProvider], breaker: Breaker) -> None:
        self._chat_models = chat_models
        self._breaker = breaker

    async def answer(
        self,
        models: Sequence[Model],
        messages: list[BaseMessage],
        tools: Sequence[ToolSchema],
        listener: ModelListener,
    ) -> ModelAnswer:
        """The first complete answer of a model. Raises the last ProviderError if no model gives one."""
        failure: ProviderError | None = None
        for model in self._candidates(models):
            listener.on_model(model)
            try:
                return await self._ask(model, messages, tools, listener)
            except ProviderError as error:
                log.warning("model.failed", model=model.name, reason=error.reason, spoke=error.has_spoken)
                if error.has_spoken:
                    raise
                failure = error
        raise failure or AssertionError("no model to call")

    def _candidates(self, models: Sequence[Model]) -> Iterator[Model]:
        """The models whose breaker is closed, or all models if none is.

        Each breaker is checked only right before its model is called: after the pause it admits one caller, which must
        then really call the model.
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
            # A rejection concerns only this request, perhaps of a single user; the model itself works.
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
                reply = await chat_model.ask(messages, listener, offered, model.max_output_tokens)
            except ProviderError as error:
                span.set_status(Status(StatusCode.ERROR, error.reason))
                MODEL_CALLS.labels(model.name, error.reason).inc()
                raise
            answer = _answer(model, messages, reply)
            _observe(span, answer, reply.completion.model or model.provider_model)
            return answer


def _answer(model: Model, messages: list[BaseMessage], reply: ChatAnswer) -> ModelAnswer:
    usage = reply.message.usage_metadata
    input_tokens = usage["input_tokens"] if usage else count_tokens_approximately(messages)
    output_tokens = usage["output_tokens"] if usage else reply.completion.chunks
    # Plain text, because it becomes part of a checkpoint.
    finish_reason = (reply.completion.finish_reason or Finish.END).value
    return ModelAnswer(reply.message, model, model.usage(input_tokens, output_tokens), finish_reason)


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
        retry=retry_if_exception(_is_retryable),
        reraise=True,
    )


def _is_retryable(error: BaseException) -> bool:
    return (
        isinstance(error, ProviderError)
        and error.is_retryable
        and not error.has_spoken
        and (error.retry_after_s or 0.0) <= _MAX_RETRY_AFTER_S
    )


class _wait_as_requested(wait_base):  # noqa: N801 - tenacity's naming of waits
    """The provider's Retry-After if it sent one, else exponential back-off with jitter."""

    def __init__(self) -> None:
        self._backoff = wait_exponential_jitter(multiplier=0.2, max=2.0, jitter=0.2)

    def __call__(self, retry_state: Any) -> float:
        error = retry_state.outcome.exception()
        requested_s: float | None = getattr(error, "retry_after_s", None)
        return requested_s if requested_s is not None else self._backoff(retry_state)


_WAIT: Final = _wait_as_requested()
