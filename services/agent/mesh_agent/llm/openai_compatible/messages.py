"""An answer as LangChain's message."""

import re
import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import orjson
from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, ToolCall

from mesh_agent.llm.broken_text import repaired, repaired_json
from mesh_agent.llm.completion import Completion
from mesh_agent.llm.openai_compatible.source import Source
from mesh_agent.llm.openai_compatible.tool_arguments import read_arguments
from mesh_agent.llm.tool_call_deltas import DeltaCall
from mesh_agent.model_settings import ReasoningField

CUT: Final = (
    "The call was cut off when the answer ended, and it was not made. Repeat it with complete arguments, and keep the "
    "answer short."
)
UNREADABLE: Final = "The arguments are not a JSON object, and the call was not made. Repeat it with valid arguments."
OPAQUE: Final = "opaque"
"""Where a message keeps what only the model that wrote it understands: its reasoning and the signatures of calls."""
# OpenAI's form of an id; vLLM makes longer ones.
_ID: Final = re.compile(r"[\x21-\x7e]{1,40}")
_ID_CHARS: Final = 9


def message_of(
    completion: Completion, asked: Sequence[BaseMessage], source: Source, kept: Collection[ReasoningField]
) -> AIMessage:
    """The answer to the messages `asked`. `source` gets the opaque fields back that are `kept` (`request_messages`).

    Calls that are cut or unreadable are `invalid_tool_calls`, with an `error` for the model. Each call has an id of its
    own, which no call before it has.
    """
    usage = completion.usage
    message = AIMessage(
        completion.text,
        usage_metadata={
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"] or usage["prompt_tokens"] + usage["completion_tokens"],
        }
        if usage
        else None,
    )
    new_id, last = _ids(asked), completion.tool_calls.last
    extras: dict[str, Any] = {}
    for call in completion.tool_calls.calls:
        call_id = new_id(call.id)
        _add_call(message, call, call_id, is_interrupted=completion.is_interrupted, is_last=call is last)
        if "extra_content" in kept and (extra := _opaque(call.extra_content)):
            extras[call_id] = extra
    reasoning = _reasoning(completion, kept)
    if reasoning or extras:
        message.additional_kwargs[OPAQUE] = source.signed({"fields": reasoning, "calls": extras})
    return message


def _add_call(message: AIMessage, call: DeltaCall, call_id: str, *, is_interrupted: bool, is_last: bool) -> None:
    # Models that were trained on OpenAI's own format write the name space of their tools before the name.
    name = repaired(call.name).strip().removeprefix("functions.")
    arguments = read_arguments(call.pieces)
    # A placeholder may stand for arguments that the end of the answer has cut.
    is_cut = is_interrupted and (is_last or (arguments is not None and not arguments.is_stated))
    if arguments is None or is_cut:
        text = repaired("".join(call.pieces))
        error = CUT if is_cut else UNREADABLE
        message.invalid_tool_calls.append(
            InvalidToolCall(name=name, args=text, id=call_id, error=error, type="invalid_tool_call")
        )
    else:
        message.tool_calls.append(ToolCall(name=name, args=arguments.value, id=call_id, type="tool_call"))


def _reasoning(completion: Completion, kept: Collection[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, pieces in completion.reasoning.items():
        if name not in kept:
            continue
        is_text = all(isinstance(piece, str) for piece in pieces)
        value = repaired("".join(pieces)) if is_text else _opaque(pieces)
        if value is not None:
            fields[name] = value
    return fields


def _opaque(value: Any) -> Any:
    """The value as a later request can carry it; None if none can, such as one that is nested too deep."""
    try:
        value = repaired_json(value)
        orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return None
    return value


def _ids(asked: Sequence[BaseMessage]) -> Callable[[str], str]:
    """Gives each call an id: the provider's, or a made-up one if that is missing, odd or taken."""
    taken = {
        call["id"]
        for message in asked
        if isinstance(message, AIMessage)
        for call in (*message.tool_calls, *message.invalid_tool_calls)
    }

    def new_id(call_id: str) -> str:
        while call_id in taken or not _ID.fullmatch(call_id):
            # Mistral accepts only ids of nine letters and digits; everybody else accepts them too.
            call_id = secrets.token_hex(_ID_CHARS)[:_ID_CHARS]
        taken.add(call_id)
        return call_id

    return new_id
