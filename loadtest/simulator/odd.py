"""The fault `odd`: the same answer in a form that other servers send, drawn anew for each answer.

The forms are those of https://html.spec.whatwg.org/multipage/server-sent-events.html and of public reports about
servers with OpenAI's API. Each carries the text and the tool calls whole, so a client has no reason to lose any.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from simulator.wire import Usage

_DRESSES_PER_ANSWER: Final = 4
_NEWLINES: Final = ("\n", "\r\n", "\r")
_REASONS: Final = {"stop": ("stop", "end_turn", "STOP", "eos"), "tool_calls": ("tool_calls", "tool_use", "stop")}

type _Choice = dict[str, Any]


def _as_parts(choice: _Choice) -> None:
    if text := choice["delta"].get("content"):
        choice["delta"]["content"] = [{"type": "text", "text": text}]


def _without_index(choice: _Choice) -> None:
    del choice["index"]


def _with_nulls(choice: _Choice) -> None:
    choice["delta"] = {"function_call": None, "refusal": None, "audio": None, "tool_calls": None, **choice["delta"]}


def _with_reasoning(choice: _Choice) -> None:
    choice["delta"]["reasoning_content"] = "Hm. "


def _with_empty_ids(choice: _Choice) -> None:
    for call in choice["delta"].get("tool_calls") or ():
        if "id" not in call:
            call |= {"id": "", "function": {"name": "", **call["function"]}}


def _without_role(choice: _Choice) -> None:
    choice["delta"].pop("role", None)


_DRESSES: Final[tuple[Callable[[_Choice], None], ...]] = (
    _as_parts,
    _without_index,
    _with_nulls,
    _with_reasoning,
    _with_empty_ids,
    _without_role,
)


class OddFrame:
    """Writes the chunks of one answer. `done` and `is_cut` are how its stream ends."""

    def __init__(self, answer_id: str, model: str, rng: random.Random) -> None:
        self._head: dict[str, Any] = {"id": answer_id, "object": "chat.completion.chunk", "model": model}
        self._rng = rng
        self._newline = rng.choice(_NEWLINES)
        self._dresses = rng.sample(_DRESSES, _DRESSES_PER_ANSWER)
        self._reports_usage_always = rng.random() < 1 / 3
        self._names_calls_always = rng.random() < 1 / 3
        self._has_finish = rng.random() < 3 / 4
        self._calls: dict[int, dict[str, str]] = {}
        self._is_begun = False
        self.done = b"" if self._has_finish and rng.random() < 1 / 3 else self._event("[DONE]")
        self.is_cut = not self.done and rng.random() < 1 / 2

    def deltas(self, deltas: Iterable[bytes]) -> bytes:
        return b"".join(self._opening() + self._chunk(orjson.loads(delta), None) for delta in deltas)

    def finish(self, reason: str) -> bytes:
        if not self._has_finish:
            return b""
        return self._chunk({}, self._rng.choice(_REASONS.get(reason, (reason,))))

    def usage(self, usage: Usage) -> bytes:
        whole = self._event(self._json({"choices": [], "usage": usage.as_json()}))
        if self._rng.random() < 1 / 2:
            return whole
        return whole + self._event(self._json({"choices": [], "usage": Usage(0, 0).as_json()}))

    def _opening(self) -> bytes:
        """Once, before the first chunk."""
        if self._is_begun:
            return b""
        self._is_begun = True
        filters: dict[str, Any] = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
        opening = self._rng.choice(("", "\ufeff")).encode()
        return opening + (self._event(self._json(filters)) if self._rng.random() < 1 / 2 else b"")

    def _chunk(self, delta: dict[str, Any], reason: str | None) -> bytes:
        if self._names_calls_always:
            self._name_calls(delta)
        choice: _Choice = {"index": 0, "delta": delta, "finish_reason": reason}
        for dress in self._dresses:
            dress(choice)
        body = {**self._head, "choices": [choice]}
        if self._reports_usage_always:
            body["usage"] = Usage(1, 1).as_json()
        return self._skipped() + self._event(self._json(body))

    def _name_calls(self, delta: dict[str, Any]) -> None:
        for call in delta.get("tool_calls") or ():
            if "id" in call:
                self._calls[call["index"]] = {"id": call["id"], "name": call["function"]["name"]}
            known = self._calls[call["index"]]
            call["id"] = known["id"]
            call["function"]["name"] = known["name"]

    def _json(self, body: dict[str, Any]) -> str:
        is_spread = self._rng.random() < 1 / 4
        return orjson.dumps(body, option=orjson.OPT_INDENT_2 if is_spread else None).decode()

    def _skipped(self) -> bytes:
        """What a reader must skip."""
        newline = self._newline
        skipped = ("", "", "", f": keep-alive{newline}{newline}", f":{newline}", f"data:{newline}{newline}")
        return self._rng.choice(skipped).encode()

    def _event(self, data: str) -> bytes:
        fields = self._rng.choice(([], [], ["event: message"], ["id: 7", "retry: 1000"]))
        space = self._rng.choice(("", " "))
        lines = [*fields, *(f"data:{space}{line}" for line in data.split("\n")), "", ""]
        return self._newline.join(lines).encode()
