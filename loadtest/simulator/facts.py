"""The rule for fact extraction: a user's statements about themselves, verbatim.

The answer to a request for structured output is *derived from the conversation* if the request asks for facts. It does
so if its schema has at the top level
- an array of strings named `facts`, or
- an array of objects with a string property for text (`text`, `fact`, `memory`, `content`, `statement`);
or if it requests `json_object` with a prompt that mentions memories or facts (mem0's own call).
The facts are then the sentences of the user's messages that contain I, my, me, mine or myself (in Korean 나, 내, 저, 제
with their particles), in order, without duplicates, questions and directives. A unique marker in such a sentence
therefore comes back unchanged, and sentences of others do not.

The user's messages are those with role `user`. If such a message is itself a transcript, only its user part counts:
mem0's section "New Messages", a JSON list of role and content or a JSON object with such a list as `messages`, `<user>`
elements, lines that begin with `user:`. If the messages of the list have a `number`, the answer's property
`message_number` names the message of each fact.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from simulator.directives import strip_directives

TEXT_PROPERTIES = ("text", "fact", "memory", "content", "statement")
NUMBER_PROPERTY = "message_number"

_SELF = re.compile(
    r"(?<![\w.])(?:i|my|me|mine|myself)(?!\w|\.e)"
    r"|(?<!\w)(?:나|나는|나도|나의|나를|나에게|내|내가|저|저는|저도|저의|저를|저에게|제|제가)(?!\w)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+|\n+")
_NEW_MESSAGES = re.compile(r"^## New Messages\n(.*?)(?=^## |^# Output|\Z)", re.DOTALL | re.MULTILINE)
_SPEAKER = re.compile(
    r"^[-*\[ \t]*(user|human|사용자|assistant|ai|system|tool)[\]*]*[ \t]*:[*]*[ \t]*", re.IGNORECASE | re.MULTILINE
)
_USER_ELEMENT = re.compile(r"<user>(.*?)</user>", re.DOTALL | re.IGNORECASE)
_USER_LABELS = frozenset({"user", "human", "사용자"})
_QUESTION_MARKS = ("?", "\uff1f")


def self_statements(user_messages: Iterable[str]) -> list[str]:
    """The sentences in which users talk about themselves, in order, without duplicates."""
    found: dict[str, None] = {}
    for message in user_messages:
        for spoken in _spoken_by_user(message):
            for sentence in _SENTENCE_END.split(strip_directives(spoken)):
                text = sentence.strip()
                if _SELF.search(text) and not text.endswith(_QUESTION_MARKS):
                    found[text] = None
    return list(found)


def message_numbers(user_messages: Iterable[str]) -> dict[str, int]:
    """The number of the message of each fact, for facts from numbered messages."""
    return {
        fact: turn["number"]
        for message in user_messages
        for turn in _turns(message) or ()
        if isinstance(turn, dict) and isinstance(turn.get("number"), int) and isinstance(turn.get("content"), str)
        for fact in self_statements([turn["content"]])
        if turn.get("role") == "user"
    }


def _spoken_by_user(message: str) -> Iterator[str]:
    section = _NEW_MESSAGES.search(message)
    text = section[1] if section else message
    if (turns := _json_turns(text)) is not None:
        yield from turns
    elif elements := _USER_ELEMENT.findall(text):
        yield from elements
    elif any(label[1].lower() in _USER_LABELS for label in _SPEAKER.finditer(text)):
        yield from _labelled_turns(text)
    else:
        yield text


def _json_turns(text: str) -> list[str] | None:
    turns = _turns(text)
    if turns is None:
        return None
    return [
        turn["content"]
        for turn in turns
        if isinstance(turn, dict) and turn.get("role") == "user" and isinstance(turn.get("content"), str)
    ]


def _turns(text: str) -> list[Any] | None:
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        value: Any = json.loads(text)
    except ValueError:
        return None
    turns = value.get("messages") if isinstance(value, dict) else value
    return turns if isinstance(turns, list) else None


def _labelled_turns(text: str) -> Iterator[str]:
    labels = list(_SPEAKER.finditer(text))
    for label, following in zip(labels, [*labels[1:], None], strict=True):
        if label[1].lower() in _USER_LABELS:
            yield text[label.end() : following.start() if following else len(text)]
