"""The seven questions, in an order in which each needs only what those before it have found."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage

from mesh_agent.doctor.asking import DoctorError, Examination
from mesh_agent.model_settings import OutputLimit, ReasoningField
from mesh_agent.plans.plan import ToolSchema

_YES: Final = HumanMessage("Reply with the word yes.")
_COUNT: Final = HumanMessage("Count from 1 to 100, in digits, separated by spaces.")
_COUNT_TOKENS: Final = 16
_WEATHER: Final = HumanMessage("What is the weather in Oslo? Look it up with the tool.")
_TOOL: Final[ToolSchema] = {
    "type": "function",
    "function": {
        "name": "look_up_weather",
        "description": "Tells the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
# As OpenAI makes them, which Mistral refuses.
_IDS: Final = ("call_5Nd0DLYWh9tMKLu1GFvCzVJC", "call_Xr81TqvBzK0aPwE3mYcLhD2s")
_LIMITS: Final[tuple[OutputLimit, ...]] = ("max_tokens", "max_completion_tokens")
_ALL_REASONING: Final[tuple[ReasoningField, ...]] = (
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "extra_content",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question. `quirks` are the values that the server needs, or that suit it as well as others."""

    question: str
    result: str
    quirks: dict[str, Any]


async def ask_all(examined: Examination) -> list[Finding]:
    """Raises DoctorError if the provider cannot be asked."""
    return [await ask(examined) for ask in _QUESTIONS]


async def _plain_stream(examined: Examination) -> Finding:
    wanted = examined.model.quirks.output_limit
    candidates = [{"output_limit": name} for name in _unique([wanted, *_LIMITS, "none"])]
    if await examined.first_accepted(candidates, [_YES]) is None:
        raise DoctorError("refuses even a plain question: check provider_model, extra_body and extra_headers")
    return Finding("plain stream", "answers", {})


async def _usage(examined: Examination) -> Finding:
    without = await examined.ask([_YES])
    reply = await examined.ask([_YES], stream_options=True)
    quirk = examined.model.quirks.stream_options if reply.is_accepted else False
    if reply.is_accepted and not without.has_usage:
        quirk = True
    if without.has_usage:
        result = "always reported" if reply.is_accepted else "always reported; stream_options is refused"
    elif reply.has_usage:
        result = "reported with stream_options"
    else:
        result = "not reported" if reply.is_accepted else "not reported; stream_options is refused"
    examined.quirks = replace(examined.quirks, stream_options=quirk)
    return Finding("usage", result, {"stream_options": quirk})


async def _output_limit(examined: Examination) -> Finding:
    results: dict[OutputLimit, str] = {}
    for name in _LIMITS:
        reply = await examined.ask([_COUNT], max_output_tokens=_COUNT_TOKENS, output_limit=name)
        results[name] = "refused" if not reply.is_accepted else "limits" if reply.is_cut else "ignored"
    wanted = examined.model.quirks.output_limit
    ranked = [name for result in ("limits", "ignored") for name in _LIMITS if results[name] == result]
    found: OutputLimit = ranked[0] if ranked else "none"
    if wanted in ranked and results[wanted] == results[found]:
        found = wanted
    examined.quirks = replace(examined.quirks, output_limit=found)
    result = ", ".join(f"{name}: {each}" for name, each in results.items())
    return Finding("output limit", result, {"output_limit": found})


async def _instructions(examined: Examination) -> Finding:
    roles = _unique([examined.model.quirks.instructions_role, "system", "developer", "user"])
    candidates = [{"instructions_role": role} | ({"alternate_roles": True} if role == "user" else {}) for role in roles]
    found = await examined.first_accepted(
        candidates, [SystemMessage("Reply only with the word yes."), HumanMessage("Are you there?")]
    )
    if found is None:
        return Finding("instructions", "refused in every role", {})
    role = found["instructions_role"]
    return Finding("instructions", f"accepted as {role}", {"instructions_role": role})


async def _tool_result(examined: Examination) -> Finding:
    reply = await examined.ask([_WEATHER], [_TOOL], reasoning_fields=_ALL_REASONING)
    if not reply.is_accepted:
        return Finding("tool call", "refused: remove `tools` from its capabilities", {})
    found: dict[str, Any] = {}
    result = "answers without calling"
    if reply.message and reply.message.tool_calls:
        result = "calls the tool"
        fields = _unique([examined.model.quirks.reasoning_fields, _ALL_REASONING, ()])
        own = [{"reasoning_fields": each} for each in fields]
        found = await examined.first_accepted(own, [_WEATHER, *_answered(reply.message)], [_TOOL]) or {}
        result += "" if found else ", but refuses its result"
    foreign = await examined.first_accepted([*_forms(examined)], [_WEATHER, *_called(1)], [_TOOL])
    if foreign is None:
        return Finding("tool call", f"{result}; refuses calls of other models", found)
    return Finding("tool call", f"{result}; takes calls of other models", found | foreign)


def _forms(examined: Examination) -> Iterator[dict[str, Any]]:
    """Ways to write a call of another model, those of the entry first."""
    own = examined.model.quirks
    configured: dict[str, Any] = {"call_ids": own.call_ids, "empty_content": own.empty_content}
    if own.reasoning_placeholders:
        configured |= {"reasoning_fields": own.reasoning_fields, "reasoning_placeholders": True}
    yield configured
    contents = _unique([own.empty_content, "none", "empty", "absent"])
    for content, ids in product(contents, _unique([own.call_ids, "at_most_40", "nine_alphanumerics"])):
        yield {"call_ids": ids, "empty_content": content}
    for field in ("reasoning_content", "extra_content"):
        yield configured | {"reasoning_fields": (field,), "reasoning_placeholders": True}


async def _parallel(examined: Examination) -> Finding:
    reply = await examined.ask([_WEATHER, *_called(2)], [_TOOL])
    if not reply.is_accepted:
        return Finding("parallel tool calls", "refused", {"parallel_tool_calls": False})
    return Finding(
        "parallel tool calls", "accepted", {"parallel_tool_calls": examined.model.quirks.parallel_tool_calls}
    )


async def _alternation(examined: Examination) -> Finding:
    talks: dict[str, list[BaseMessage]] = {
        "two messages in a row": [_YES, HumanMessage("Are you there?")],
        "a message after a tool's result": [_WEATHER, *_called(1), HumanMessage("Thanks. Reply with yes.")],
    }
    refused = [
        name
        for name, messages in talks.items()
        if not (await examined.ask(messages, [_TOOL] if "tool" in name else (), alternate_roles=False)).is_accepted
    ]
    needed = bool(refused) or examined.model.quirks.alternate_roles or examined.quirks.instructions_role == "user"
    result = f"refuses {' and '.join(refused)}" if refused else "not needed"
    examined.quirks = replace(examined.quirks, alternate_roles=needed)
    return Finding("alternating roles", result, {"alternate_roles": needed})


_QUESTIONS: Final[tuple[Callable[[Examination], Awaitable[Finding]], ...]] = (
    _plain_stream,
    _usage,
    _output_limit,
    _instructions,
    _tool_result,
    _parallel,
    _alternation,
)


def _called(count: int) -> list[BaseMessage]:
    """Calls of another model with their results."""
    calls = [ToolCall(name="look_up_weather", args={"city": "Oslo"}, id=each) for each in _IDS[:count]]
    return _answered(AIMessage("", tool_calls=calls))


def _answered(message: AIMessage) -> list[BaseMessage]:
    return [message, *(ToolMessage("Rain, 7 degrees.", tool_call_id=call["id"]) for call in message.tool_calls)]


def _unique[T](values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
