"""What the extraction model is asked, and what its answer means.

Messages are data: they are sent as one JSON document, so no line in a user's text can pass for a part of the prompt.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from mesh_common.clock import utc_now
from mesh_common.model_json import json_values
from mesh_common.text import is_visible

from mesh_memory.domain import Fact, Message, Speaker, shortened, text_hash
from mesh_memory.ports import UnreadableAnswer

# About 8,000 tokens. Limits the cost of a turn, and fits the context of every model that can extract.
_MAX_TURN_CHARACTERS: Final = 32_000
_MAX_FACTS: Final = 20
_WORD: Final = re.compile(r"\w+")


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


_FACT: Final = _object(text={"type": "string"}, message_number={"type": "integer"})
FORMAT: Final = {
    "type": "json_schema",
    "json_schema": {"name": "facts", "strict": True, "schema": _object(memory={"type": "array", "items": _FACT})},
}


@dataclass(frozen=True, slots=True)
class CitedFact:
    """A fact of the model's answer; `number` is that of the message that it names, if it names one."""

    text: str
    number: int | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """The newest messages that fit, the oldest of them truncated, numbered from 1."""

    messages: Sequence[Message]
    texts: Sequence[str]

    @classmethod
    def of(cls, messages: Sequence[Message]) -> "Conversation":
        left = _MAX_TURN_CHARACTERS
        chosen: list[tuple[Message, str]] = []
        for message in reversed(messages):
            if text := message.content[:left]:
                chosen.append((message, text))
            left -= len(text)
        return cls([message for message, _ in chosen[::-1]], [text for _, text in chosen[::-1]])

    def document(self, known: Sequence[str]) -> str:
        """The JSON that the prompt describes."""
        today = utc_now().date()
        messages = [
            {
                "number": number,
                "said_on": (message.source.said_at or today).strftime("%Y-%m-%d (%A)"),
                "role": message.speaker.value,
                "content": text,
            }
            for number, (message, text) in enumerate(zip(self.messages, self.texts, strict=True), start=1)
        ]
        return orjson.dumps({"known_facts": list(known), "messages": messages}).decode()

    def facts(self, cited: Sequence[CitedFact]) -> list[Fact]:
        """Each fact once, tidy, at most 20, with its source."""
        facts = {
            text_hash(text): Fact(text, self._source(fact).source)
            for fact in cited
            if is_visible(text := shortened(fact.text))
        }
        return list(facts.values())[:_MAX_FACTS]

    def _source(self, fact: CitedFact) -> Message:
        """The message that the model names, if it is the user's. Else the user's message that shares most words with
        the fact, and among equals the last."""
        numbered = dict(enumerate(self.messages, start=1))
        named = numbered.get(fact.number or 0)
        if named and named.speaker is Speaker.USER:
            return named
        words = _words(fact.text)
        said = [
            (len(words & _words(text)), number)
            for number, (message, text) in enumerate(zip(self.messages, self.texts, strict=True), start=1)
            if message.speaker is Speaker.USER
        ]
        return numbered[max(said)[1]] if said else self.messages[-1]


def cited_facts(answer: object) -> list[CitedFact]:
    """The facts in a model's answer: an object with `memory`, or its list alone. Raises UnreadableAnswer.

    Not every server enforces the schema, and a JSON escape may hold NUL or half a surrogate pair, which cannot be
    stored.
    """
    for value in json_values(answer):
        items = value.get("memory") if isinstance(value, dict) else value
        if isinstance(items, list) and all(_is_fact(item) for item in items):
            return list(map(_cited, items))
    raise UnreadableAnswer


def content_of(completion: object) -> str | None:
    """The text of the first choice. Servers leave out, or send null for, whatever they do not have."""
    choices = getattr(completion, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    content = getattr(message, "content", None)
    if isinstance(content, list):
        return "".join(_texts_of_parts(content))
    return content if isinstance(content, str) else None


def _texts_of_parts(parts: Sequence[object]) -> Iterator[str]:
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else getattr(part, "text", None)
        if isinstance(text, str):
            yield text


def _is_fact(item: object) -> bool:
    return isinstance(item, str) or (isinstance(item, dict) and isinstance(item.get("text"), str))


def _cited(item: str | dict[str, Any]) -> CitedFact:
    if isinstance(item, str):
        return CitedFact(_storable(item), None)
    number = item.get("message_number")
    return CitedFact(_storable(item["text"]), number if isinstance(number, int) else None)


def _storable(text: str) -> str:
    return text.replace("\x00", "").encode(errors="ignore").decode()


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
