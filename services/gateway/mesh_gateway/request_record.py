"""Collects data about one HTTP or WebSocket request for its response, its log line and its metrics.

It also carries the error format of the request's protocol.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mesh_common.errors import FieldFault

_KEY: Final = "mesh.request"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served, independent of the protocol. `status` is the HTTP status."""

    status: int
    reason: str
    detail: str
    fields: Sequence[FieldFault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class ErrorDialect(Protocol):
    """How a protocol renders errors."""

    @property
    def media_type(self) -> str: ...

    def render(self, refusal: Refusal, record: "RequestRecord") -> tuple[int, bytes]:
        """The status, which this protocol may change, and the body."""
        ...


@dataclass(slots=True)
class RequestRecord:
    """`headers` are added to every response, `members` only to an error."""

    trace_id: str
    started_s: float
    """By `time.perf_counter`."""
    dialect: ErrorDialect
    headers: dict[str, str] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def attach(self, scope: MutableMapping[str, Any]) -> None:
        """Stores the record in the scope of an ASGI connection, where `record_of` finds it."""
        scope[_KEY] = self


def record_of(scope: Mapping[str, Any]) -> RequestRecord:
    record: Any = scope[_KEY]
    if not isinstance(record, RequestRecord):
        raise TypeError("the request did not pass RequestObserver")
    return record
