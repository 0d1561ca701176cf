"""The input of a run, and a client's position in its events."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from mesh_common.errors import InvalidInput
from mesh_common.events.model import RunEvent
from mesh_common.ids import RunId, parse_id

# What happens to a new run on a thread that already has an unended run.
Multitask = Literal["enqueue", "reject", "interrupt"]

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


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A run to be started."""

    run_id: RunId
    message: str
    metadata: Mapping[str, str]
    thread_id: str | None = None
    model: str | None = None
    multitask: Multitask = "enqueue"
    cancels_on_disconnect: bool = False
    idempotency_key: str | None = None
    is_followed: bool = True
    """False if the client does not read events after the acknowledgement."""
