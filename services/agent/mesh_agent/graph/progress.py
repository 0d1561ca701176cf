"""What earlier attempts of a run have done, read from the messages that they left."""

from collections.abc import Sequence
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from mesh_agent.domain.attempts import Progress
from mesh_agent.domain.runs import Usage
from mesh_agent.domain.tools import ToolResult
from mesh_agent.graph.tool_calls import RUN

UNSAID: Final = "mesh_unsaid"
"""In a message's `response_metadata`: the user has not seen its text."""


def is_of_run(message: BaseMessage, run_id: str, default: str = "") -> bool:
    """Whether this run made the message. `default`: the run of messages that name none."""
    return bool(message.response_metadata.get(RUN, default) == run_id)


def progress_in(messages: Sequence[BaseMessage]) -> Progress:
    """Answers of models have a cost; messages of the thread's history do not."""
    answers = [
        message for message in messages if isinstance(message, AIMessage) and "cost" in message.response_metadata
    ]
    # By call, because LangGraph returns the results of an incomplete step both in the state and with its tasks.
    results = {message.tool_call_id: _result(message) for message in messages if isinstance(message, ToolMessage)}
    return Progress(
        texts=tuple(
            str(answer.content) for answer in answers if answer.content and not answer.response_metadata.get(UNSAID)
        ),
        tool_results=tuple(results.values()),
        billed=_billed(answers),
        model=_model_of(answers[-1]) if answers else "",
    )


def _billed(answers: Sequence[AIMessage]) -> dict[str, Usage]:
    billed: dict[str, Usage] = {}
    for answer in answers:
        name = _model_of(answer)
        billed[name] = billed.get(name, Usage()).plus(Usage(*answer.response_metadata["cost"]))
    return billed


def _model_of(answer: AIMessage) -> str:
    """Empty for an answer that release 0.1.0 stored."""
    name: str = answer.response_metadata.get("model", "")
    return name


def _result(message: ToolMessage) -> ToolResult:
    is_unknown = bool(message.response_metadata.get("is_unknown"))
    is_error = message.status == "error"
    return ToolResult(message.tool_call_id, message.name or "", "", str(message.content), is_error, is_unknown)
