"""Calls models in order until one answers. Retries and falls back only before the first token: never a mixed answer."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import structlog
from langchain_core.messages import AIMessage, BaseMessage
from mesh_common.process.telemetry import tracer
from mesh_common.retrying import with_retries
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from mesh_agent.domain.runs import Usage
from mesh_agent.llm.breaker import Breaker
from mesh_agent.llm.completion import AnswerFullError, TextListener
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.provider import ChatAnswer, ChatProvider
from mesh_agent.llm.provider_errors import CONTEXT_TOO_LONG, EMPTY_ANSWER, MISCONFIGURED, ProviderError
from mesh_agent.llm.registry import Model
from mesh_agent.llm.retries import retrying
from mesh_agent.llm.token_estimate import messages_tokens, tools_tokens
from mesh_agent.metrics import MODEL_CALLS, MODEL_MISCONFIGURED
from mesh_agent.plans.plan import NO_PARAMETERS, ModelParameters, ToolSchema

log = structlog.get_logger()

# Errors that concern one model only. If another model fails for another reason, that reason is reported.
_RANKS: Final = {MISCONFIGURED: 0, CONTEXT_TOO_LONG: 1}
_HIGHEST_RANK: Final = 2


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    message: AIMessage
    model: Model
    usage: Usage
    finish_reason: str


class ModelListener(TextListener, Protocol):
    def on_model(self, model: Model) -> None:
        """This model is called now and has sent nothing yet."""


class Window(Protocol):
    """The messages of a round, for models of different sizes."""

    def fits(self, budget_tokens: int) -> bool:
        """Whether a model with this input budget can read what must not be left out."""

    def fitted(self, budget_tokens: int) -> list[BaseMessage]:
        """As much as fits; what must not be left out remains even if it does not fit."""


@dataclass(slots=True)
class Round:
    """What any model is asked in one round. `deadline_s` is the end of the attempt in the event loop's time."""

    window: Window
    tools: Sequence[ToolSchema]
    listener: ModelListener
    deadline_s: float = math.inf
    parameters: ModelParameters = NO_PARAMETERS
    sent: list[BaseMessage] = field(default_factory=list)
    """What the last model was sent."""
    halved: dict[str, int] = field(default_factory=dict)
    """Budgets of models whose provider counted more tokens than we did."""
    tools_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tools_tokens = tools_tokens(self.tools)

    def input_tokens(self) -> int:
        return messages_tokens(self.sent)

    def offered(self, model: Model) -> Sequence[ToolSchema]:
        return self.tools if "tools" in model.capabilities else ()

    def budget_tokens(self, model: Model) -> int:
        budget = model.input_budget_tokens - (self.tools_tokens if self.offered(model) else 0)
        return self.halved.get(model.name, budget)


class FallbackModel:
    """The chat models by name, with their breakers. One per process."""

    def __init__(self, chat_models: dict[str, ChatProvider], breaker: Breaker) -> None:
        self._chat_models = chat_models
        self._breaker = breaker
        self._misconfigured: set[str] = set()

    async def answer(self, models: Sequence[Model], asked: Round) -> ModelAnswer:
        """The first complete answer of a model.

        Raises ProviderError if no model gives one: the last error, except that an error of the set-up or of the length
        does not hide another model's.
        """
        # Models that cannot read the run at all are not called, unless there is no other.
        able = [model for model in models if asked.window.fits(asked.budget_tokens(model))] or models
        failure: ProviderError | None = None
        for model in self._candidates(able):
            asked.listener.on_model(model)
            try:
                return await self._ask(model, asked, is_alone=self._is_alone(model, able))
            except ProviderError as error:
                log.warning("model.failed", model=model.name, reason=error.reason, spoke=error.has_spoken)
                if error.has_spoken:
                    raise
                if failure is None or _rank(error) >= _rank(failure):
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

    def _is_alone(self, model: Model, models: Sequence[Model]) -> bool:
        """Whether no other model is called. If this one is broken too, all of them are (`_candidates`)."""
        others = [other for other in models if other.name != model.name]
        are_skipped = all(self._breaker.skips(other.name) for other in others)
        return not others or (are_skipped and not self._breaker.skips(model.name))

    async def _ask(self, model: Model, asked: Round, *, is_alone: bool) -> ModelAnswer:
        tries = partial(retrying, is_alone=is_alone, deadline_s=asked.deadline_s)
        try:
            answer = await with_retries(partial(self._ask_fitted, model, asked), tries, on=ProviderError)
        except ProviderError as error:
            self._note(model, error)
            raise
        except AnswerFullError:
            self._works(model)
            raise
        self._works(model)
        return answer

    def _note(self, model: Model, error: ProviderError) -> None:
        if error.reason == MISCONFIGURED:
            self._breaker.misconfigured(model.name)
            if model.name not in self._misconfigured:
                # Once, not for each run: the metric says how long it lasts.
                self._misconfigured.add(model.name)
                MODEL_MISCONFIGURED.labels(model.name).set(1)
                log.error("model.misconfigured", model=model.name, status=error.status)
        elif error.is_retryable and error.reason != EMPTY_ANSWER:
            self._breaker.failed(model.name)
        else:
            # A rejection or silence concerns only this request, perhaps of a single user; the model itself works.
            self._works(model)

    def _works(self, model: Model) -> None:
        self._breaker.succeeded(model.name)
        if model.name in self._misconfigured:
            self._misconfigured.remove(model.name)
            MODEL_MISCONFIGURED.labels(model.name).set(0)
            log.info("model.works_again", model=model.name)

    async def _ask_fitted(self, model: Model, asked: Round) -> ModelAnswer:
        """Asks with what fits by our estimate, and once more with half of that if the provider counts more."""
        asked.sent = asked.window.fitted(asked.budget_tokens(model))
        try:
            return await self._ask_once(model, asked)
        except ProviderError as error:
            if error.reason != CONTEXT_TOO_LONG or model.name in asked.halved:
                raise
            sent_tokens = asked.input_tokens()
            smaller = asked.window.fitted(sent_tokens // 2)
            if messages_tokens(smaller) >= sent_tokens:
                raise
            log.info("model.window_halved", model=model.name, estimated_tokens=sent_tokens)
            asked.halved[model.name], asked.sent = sent_tokens // 2, smaller
        return await self._ask_once(model, asked)

    async def _ask_once(self, model: Model, asked: Round) -> ModelAnswer:
        chat_model = self._chat_models[model.name]
        with tracer.start_as_current_span(
            f"chat {model.provider_model}", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as span:
            _describe_request(span, model)
            try:
                reply = await chat_model.ask(
                    asked.sent, asked.listener, asked.offered(model), model.max_output_tokens, asked.parameters
                )
            except ProviderError as error:
                span.set_status(Status(StatusCode.ERROR, error.reason))
                MODEL_CALLS.labels(model.name, error.reason).inc()
                raise
            answer = _answer(model, asked, reply)
            _observe(span, answer, reply.completion.model or model.provider_model)
            return answer


def _answer(model: Model, asked: Round, reply: ChatAnswer) -> ModelAnswer:
    usage = reply.message.usage_metadata
    input_tokens = usage["input_tokens"] if usage else asked.input_tokens()
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


def _rank(error: ProviderError) -> int:
    return _RANKS.get(error.reason, _HIGHEST_RANK)
