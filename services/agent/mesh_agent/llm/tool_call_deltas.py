"""Collects the tool calls of an answer from its deltas, as different servers send them.

OpenAI numbers the calls by `index` and sends id and name once. Others repeat the name in every delta, number all calls
0, leave the index or the id out, or give two calls one id. A delta belongs to the call with its id, else to the last
one with its index, else to the last one; but never to a call that is whole already when the delta begins another.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from mesh_agent.llm.openai_compatible.tool_arguments import as_piece, is_whole

_INDEX: Final = re.compile(r"[0-9]{1,4}")
# Far more than any tool round may make.
_MAX_CALLS: Final = 128


class TooManyCallsError(Exception):
    """Each delta is compared with all calls, so their number has to be bounded."""

    def __init__(self) -> None:
        super().__init__(f"more than {_MAX_CALLS} tool calls")


@dataclass(slots=True)
class DeltaCall:
    """One call. `pieces` are its arguments as received; `openai_compatible.tool_arguments` reads them."""

    id: str = ""
    index: int | None = None
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    extra_content: dict[str, Any] | None = None
    """Opaque data that the provider wants back with the call, such as the signatures of Gemini's thoughts."""


@dataclass(slots=True)
class _Part:
    """One entry of a delta's list."""

    id: str
    index: int | None
    name: str
    piece: str


class ToolCallDeltas:
    def __init__(self) -> None:
        self.calls: list[DeltaCall] = []
        self.last: DeltaCall | None = None
        """The call that the last delta belongs to: if the answer is cut, so is this call."""

    def __bool__(self) -> bool:
        return bool(self.calls)

    def add(self, deltas: list[Any]) -> None:
        """Adds the entries of one delta. What is no call is ignored. Raises TooManyCallsError."""
        continued: list[DeltaCall] = []
        for delta in deltas:
            if isinstance(delta, dict):
                part = _part(delta)
                if not (part.id or part.name or part.piece or delta.get("extra_content")):
                    continue
                call = self._call_of(part, continued)
                _extend(call, part, delta.get("extra_content"))
                continued.append(call)
                self.last = call

    def _call_of(self, part: _Part, continued: list[DeltaCall]) -> DeltaCall:
        """The call that the part continues, or a new one. `continued`: those that earlier entries of its list did."""
        call = self._candidate(part)
        if call is not None:
            is_next_entry = part.index is None and bool(part.name) and any(call is other for other in continued)
            if not is_next_entry and not _begins_another(call, part):
                return call
        if len(self.calls) == _MAX_CALLS:
            raise TooManyCallsError
        call = DeltaCall()
        self.calls.append(call)
        return call

    def _candidate(self, part: _Part) -> DeltaCall | None:
        for call in reversed(self.calls):
            if part.id and call.id == part.id and not (part.name and _differ(part.index, call.index)):
                return call
        if part.index is not None:
            same_index = (call for call in reversed(self.calls) if call.index == part.index)
            indexed = next(same_index, None)
            if indexed is None or not part.id or not indexed.id:
                return indexed
            # Another id begins another call; without a name it is only an id made anew for each delta.
            return None if part.name or is_whole("".join(indexed.pieces)) else indexed
        if part.id:
            return None
        return self.last


def _part(delta: dict[str, Any]) -> _Part:
    function = delta.get("function")
    function = function if isinstance(function, dict) else {}
    call_id, name = delta.get("id"), function.get("name")
    return _Part(
        id=str(call_id) if isinstance(call_id, str) or type(call_id) is int else "",
        index=_index(delta.get("index")),
        name=name if isinstance(name, str) else "",
        piece=as_piece(function.get("arguments")),
    )


def _index(index: Any) -> int | None:
    if type(index) is int:
        return index
    return int(index) if isinstance(index, str) and _INDEX.fullmatch(index) else None


def _extend(call: DeltaCall, part: _Part, extra_content: Any) -> None:
    call.id = call.id or part.id
    if call.index is None:
        call.index = part.index
    if not call.pieces or not call.name:
        # A name is complete when the arguments begin.
        call.name = _joined_name(call.name, part.name)
    if part.piece:
        call.pieces.append(part.piece)
    if isinstance(extra_content, dict):
        call.extra_content = extra_content


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other


def _begins_another(call: DeltaCall, part: _Part) -> bool:
    """Whether the part is a call of its own although id or index say that it continues `call`.

    Only a part with a name can be. If id and index both agree, it is the same call, repeated.
    """
    if not part.name or not call.name:
        return False
    if part.id and part.id == call.id and part.index is not None and part.index == call.index:
        return False
    arguments = "".join(call.pieces)
    if part.name != call.name:
        return bool(arguments) or (part.index is None and not part.name.startswith(call.name))
    return is_whole(part.piece) and is_whole(arguments) and part.piece != arguments


def _joined_name(name: str, piece: str) -> str:
    """Servers repeat the name in every delta, send it in growing prefixes, or send it in pieces."""
    if not piece or piece == name:
        return name
    return piece if piece.startswith(name) else name + piece
