"""A client's position in the events of a run."""

import re
from dataclasses import dataclass
from typing import Final

from mesh_common.errors import InvalidInput
from mesh_common.events.model import RunEvent
from mesh_common.ids import RunId, parse_id

_POSITION: Final = re.compile(r"([0-9a-fA-F-]{36}):(\d{1,10}):(\d{1,10})", re.ASCII)
_MAX_NUMBER: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class EventPosition:
    """`<run>:<attempt>:<seq>`: the id of an event."""

    run_id: RunId
    attempt: int
    seq: int

    def __str__(self) -> str:
        return f"{self.run_id}:{self.attempt}:{self.seq}"

    @classmethod
    def of(cls, event: RunEvent) -> "EventPosition":
        return cls(event.run_id, event.attempt, event.seq)

    @classmethod
    def parse(cls, text: str, field: str) -> "EventPosition":
        """Raises InvalidInput naming `field` for anything that is not an event id."""
        match = _POSITION.fullmatch(text)
        if match is None or max(int(match[2]), int(match[3])) > _MAX_NUMBER:
            raise InvalidInput.of_field(field, "is not <run_id>:<attempt>:<seq>")
        return cls(RunId(parse_id(match[1], field)), int(match[2]), int(match[3]))
