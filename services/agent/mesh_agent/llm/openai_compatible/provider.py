"""Providers that speak OpenAI's chat completions.

LangChain's own streaming costs 13 ms per turn in per-token objects and callbacks (measured), so the reader of this
package passes text to a plain function.
"""

from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import structlog
from langchain_core.messages import BaseMessage
from opentelemetry import propagate

from mesh_agent.llm.completion import TextListener
from mesh_agent.llm.openai_compatible.messages import message_of
from mesh_agent.llm.openai_compatible.parameters import refused_parameter
from mesh_agent.llm.openai_compatible.refusals import RequestRefusedError
from mesh_agent.llm.openai_compatible.request import RequestForm
from mesh_agent.llm.openai_compatible.stream import read_completion
from mesh_agent.llm.provider import ChatAnswer
from mesh_agent.llm.quirks import Quirks
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import NO_PARAMETERS, ModelParameters, ToolSchema

log = structlog.get_logger()

# A server names one parameter at a time: in one reported case `max_tokens`, then `temperature`, then
# `reasoning_effort` (https://github.com/warmbly/warmbly/issues/513).
_MAX_ADAPTATIONS: Final = 5


class OpenAICompatible:
    """A ChatProvider. Parameters that the server refuses by name are left out from then on."""

    def __init__(self, model: Model, session: aiohttp.ClientSession, *, is_adaptive: bool = True) -> None:
        self._model = model
        self._session = session
        self._form = RequestForm.of(model)
        self._max_adaptations = _MAX_ADAPTATIONS if is_adaptive else 0
        self._url = f"{model.base_url.rstrip('/')}/chat/completions"
        self._headers = {
            **model.quirks.extra_headers,
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
        }
        if model.api_key:
            self._headers["Authorization"] = f"Bearer {model.api_key}"

    @property
    def quirks(self) -> Quirks:
        """Those of the model, without what its server has refused."""
        return self._form.quirks

    async def ask(
        self,
        messages: list[BaseMessage],
        listener: TextListener,
        tools: Sequence[ToolSchema] = (),
        max_output_tokens: int | None = None,
        parameters: ModelParameters = NO_PARAMETERS,
    ) -> ChatAnswer:
        given = parameters.given()
        began = form = self._form
        refused: list[str] = []
        for _ in range(self._max_adaptations + 1):
            try:
                payload = form.payload(messages, tools, max_output_tokens, given)
                answer = await self._ask(form, messages, listener, payload)
            except RequestRefusedError as refusal:
                refusing = refusal
            else:
                self._learn(began, form, refused)
                return answer
            if self._form is not began:
                # A concurrent request has learned what the server takes.
                began = form = self._form
                refused.clear()
            elif (parameter := refused_parameter(refusing.body, form.parameters(given))) is not None:
                form = form.without(parameter)
                refused.append(parameter)
            else:
                break
        raise refusing.error from None

    async def _ask(
        self, form: RequestForm, messages: list[BaseMessage], listener: TextListener, payload: dict[str, Any]
    ) -> ChatAnswer:
        headers = dict(self._headers)
        propagate.inject(headers)
        completion = await read_completion(
            self._session,
            self._url,
            headers=headers,
            payload=payload,
            listener=listener,
            first_token_within_s=self._model.first_token_timeout_s,
        )
        return ChatAnswer(message_of(completion, messages, form.source, form.quirks.reasoning_fields), completion)

    def _learn(self, began: RequestForm, form: RequestForm, refused: Sequence[str]) -> None:
        """Uses the form for all later requests, now that the server has taken it.

        Not before: an error that repeats a user's text may name parameters, but leaving them out does not help then.
        """
        if form is began or self._form is not began:
            return
        self._form = form
        for parameter in refused:
            log.warning("model.parameter_refused", model=self._model.name, parameter=parameter)
