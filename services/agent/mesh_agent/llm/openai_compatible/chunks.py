"""Merges the chunks of OpenAI's chat completions into a completion, as the servers that speak it write them.

A key that is missing, null or of another type is absent. Only an error that the server reports is raised.
"""

import re
from typing import Any, Final

from mesh_agent.llm.completion import Completion
from mesh_agent.llm.finish_reasons import Finish, finish_of

# No model reads or writes so many tokens. A larger number is wrong, and might not even fit PostgreSQL's bigint.
_MAX_TOKENS: Final = 1_000_000_000
_DIGITS: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_USAGE_FIELDS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
# Types of content parts that are not part of the answer's text.
_TEXT_PARTS: Final = ("text", "output_text")


class StreamedError(Exception):
    """The provider reports an error in its answer, or as the reason for its end.

    `reported` is what it says about it, in any form; None if it says nothing.
    """

    def __init__(self, reported: Any = None) -> None:
        super().__init__("error in the answer")
        self.reported = reported


def merge(completion: Completion, chunk: dict[str, Any]) -> str:
    """Adds a chunk to the completion and returns its text. Runs once per token.

    Raises StreamedError.
    """
    if chunk.get("error") or chunk.get("usage") or chunk.get("x_groq"):
        _merge_rare(completion, chunk)
    if not completion.id and isinstance(answer_id := chunk.get("id"), str):
        completion.id = answer_id
    if not completion.model and isinstance(model := chunk.get("model"), str):
        completion.model = model
    choices = chunk.get("choices")
    if choices and type(choices) is list:
        if type(choice := choices[0]) is not dict or choice.get("index"):
            choice = _first_choice(choices)
        return _merge_choice(completion, choice)
    if not choices and chunk.get("object") == "error":
        raise StreamedError(chunk)
    return ""


def _first_choice(choices: list[Any]) -> dict[str, Any]:
    """One answer is asked for. Further ones, which some servers send, must not be mixed into it."""
    first = (choice for choice in choices if isinstance(choice, dict) and _is_first(choice.get("index")))
    return next(first, {})


def _is_first(index: Any) -> bool:
    if isinstance(index, str):
        return not index.isdecimal() or int(index) == 0
    return not isinstance(index, int) or index == 0


def _merge_rare(completion: Completion, chunk: dict[str, Any]) -> None:
    if chunk.get("error"):
        raise StreamedError(chunk)
    _take_usage(completion, chunk.get("usage"))
    groq = chunk.get("x_groq")
    if isinstance(groq, dict):
        if groq.get("error"):
            raise StreamedError(groq)
        _take_usage(completion, groq.get("usage"))


def _merge_choice(completion: Completion, choice: dict[str, Any]) -> str:
    delta = choice.get("delta")
    reason = choice.get("finish_reason")
    if not reason and type(delta) is dict and len(delta) == 1 and type(content := delta.get("content")) is str:
        # Nearly every chunk.
        return content
    if choice.get("error"):
        raise StreamedError(choice)
    if isinstance(reason, str) and reason:
        found = finish_of(reason)
        if found is Finish.FAILED:
            raise StreamedError
        # A closing chunk may say `stop` once more. What was cut stays cut.
        if not (found is Finish.END and completion.is_interrupted):
            completion.finish_reason = found
    _take_usage(completion, choice.get("usage"))
    if isinstance(delta, dict):
        return _merge_delta(completion, delta)
    if isinstance(message := choice.get("message"), dict):
        completion.whole_message = message
    return ""


def merge_whole_message(completion: Completion) -> str:
    """Adds the message that the server sent whole, unless it had sent it in deltas before; returns its text."""
    message, completion.whole_message = completion.whole_message, None
    return _merge_delta(completion, message) if message else ""


def merge_whole_calls(completion: Completion) -> None:
    """Adds the calls of a message that the server sent whole after deltas of text alone."""
    calls = completion.whole_message and completion.whole_message.get("tool_calls")
    if calls:
        completion.tool_calls.add(_listed(calls))


def _merge_delta(completion: Completion, delta: dict[str, Any]) -> str:
    if calls := delta.get("tool_calls"):
        completion.tool_calls.add(_listed(calls))
    elif (call := delta.get("function_call")) and isinstance(call, dict):
        # The form before tools, which some servers still send.
        completion.tool_calls.add([{"index": 0, "function": call}])
    _merge_silent(completion, delta)
    content = delta.get("content")
    return content if isinstance(content, str) else _text_of_parts(content)


# May have to go back to the model, unchanged.
_REASONING_TEXTS: Final = ("reasoning_content", "reasoning")
_REASONING_ITEMS: Final = "reasoning_details"
# Names under which servers show a model's reasoning.
_REASONING_FIELDS: Final = (*_REASONING_TEXTS, _REASONING_ITEMS, "reasoning_text", "thinking")


def _merge_silent(completion: Completion, delta: dict[str, Any]) -> None:
    """What is not text for the user."""
    for said in (delta, *_listed(delta.get("content"))):
        if isinstance(said, dict) and (refusal := said.get("refusal")) and isinstance(refusal, str):
            completion.refusal.append(refusal)
    if not completion.has_reasoned:
        # A list of content parts may consist of thinking alone.
        shown = (*(delta.get(name) for name in _REASONING_FIELDS), isinstance(delta.get("content"), list))
        completion.has_reasoned = any(shown)
    for name in _REASONING_TEXTS:
        if isinstance(text := delta.get(name), str):
            completion.reasoning.setdefault(name, []).append(text)
    details = delta.get(_REASONING_ITEMS)
    if details and isinstance(details, list):
        completion.reasoning.setdefault(_REASONING_ITEMS, []).extend(details)


def _text_of_parts(content: Any) -> str:
    """The text of a list of parts (Mistral); parts of thinking, references and images have none for the user."""
    return "".join(map(_text_of_part, _listed(content)))


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or (part.get("type") or "text") not in _TEXT_PARTS:
        return ""
    text = part.get("text")
    if isinstance(text, dict):
        text = text.get("value")
    return text if isinstance(text, str) else ""


def _listed(value: Any) -> list[Any]:
    """Some servers send one entry in place of a list of one."""
    return value if isinstance(value, list) else [value]


def _take_usage(completion: Completion, reported: Any) -> None:
    """Keeps the last usage that says something: some servers end with zeros."""
    if not isinstance(reported, dict):
        return
    numbers = {name: _tokens(reported.get(name)) for name in _USAGE_FIELDS}
    usage = {name: number for name, number in numbers.items() if number is not None}
    if len(usage) == len(numbers) and any(usage.values()):
        completion.usage = usage


def _tokens(number: Any) -> int | None:
    """Gateways in other languages write whole numbers as 7.0 or "7". None for what is no number of tokens."""
    if isinstance(number, str) and _DIGITS.fullmatch(number):
        number = int(number)
    if type(number) is float and number.is_integer():
        number = int(number)
    if not number:
        return 0
    return number if type(number) is int and 0 < number <= _MAX_TOKENS else None
