"""Answers that are JSON of a schema: read, checked, and asked for once more if they do not fit.

Nothing of such an answer is streamed before it is right: what was sent cannot be taken back.
"""

from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage
from mesh_common.errors import PreconditionFailed
from mesh_common.model_json import json_values
from mesh_common.response_format import ResponseFormat

from mesh_agent.graph.nodes import tool_calls
from mesh_agent.graph.progress import UNSAID
from mesh_agent.graph.rounds import CodedListener, Prompt, Rounds
from mesh_agent.llm.completion import AnswerFullError
from mesh_agent.metrics import OUTPUTS
from mesh_agent.plans.plan import PlannedTool
from mesh_agent.tools.call import to_json
from mesh_agent.tools.schema import answer_faults

_REPAIR: Final = (
    "Your answer is not valid: {fault}. Answer again with nothing but JSON that fits this JSON Schema:\n{schema}"
)
_NO_JSON: Final = "it contains no JSON object or array"
_MAX_FAULT_CHARS: Final = 2_000


class StructuredRounds:
    """`ask` as `Rounds.ask`, with an answer whose text is JSON of the form's schema if it calls no tools."""

    def __init__(self, rounds: Rounds, listener: CodedListener, response_format_json: str) -> None:
        self._rounds = rounds
        self._listener = listener
        self._schema = ResponseFormat.model_validate_json(response_format_json).schema_of_answer

    async def ask(self, messages: list[BaseMessage], tools: Sequence[PlannedTool], prompt: Prompt) -> AIMessage:
        """Raises PreconditionFailed if the second answer does not fit either."""
        answer = await self._rounds.ask(self._listener.aside(), messages, tools, prompt)
        if tool_calls(answer):
            answer.response_metadata[UNSAID] = True
            return answer
        value, fault = self._read(answer)
        if fault:
            answer = await self._repaired(answer, fault, messages, prompt)
            value, fault = self._read(answer)
        OUTPUTS.labels("invalid" if fault else "valid").inc()
        if fault:
            raise PreconditionFailed(
                f"The model's answer does not fit the response_format: {fault}", reason="OUTPUT_INVALID"
            )
        return self._said(answer, to_json(value))

    def _read(self, answer: AIMessage) -> tuple[Any, str]:
        """The value, and what is wrong with it: of the first one in the text if none fits."""
        fault = ""
        for value in json_values(answer.text):
            if not (faults := answer_faults(self._schema, value)):
                return value, ""
            fault = fault or faults[:_MAX_FAULT_CHARS]
        return None, fault or _NO_JSON

    async def _repaired(
        self, answer: AIMessage, fault: str, messages: Sequence[BaseMessage], prompt: Prompt
    ) -> AIMessage:
        """The second answer, with the cost of both."""
        OUTPUTS.labels("repaired").inc()
        # No HumanMessage: the user's message before it must remain, however small the window is.
        repair = ChatMessage(content=_REPAIR.format(fault=fault, schema=to_json(self._schema)), role="user")
        second = await self._rounds.ask(self._listener.aside(), [*messages, answer, repair], (), prompt)
        costs = zip(answer.response_metadata["cost"], second.response_metadata["cost"], strict=True)
        second.response_metadata["cost"] = [sum(both) for both in costs]
        return second

    def _said(self, answer: AIMessage, text: str) -> AIMessage:
        answer.content = text
        try:
            self._listener.say(text)
        except AnswerFullError as error:
            raise PreconditionFailed("The answer is too long.", reason="ANSWER_TOO_LONG") from error
        return answer
