"""What one request gathers on its way, for its answer, its log line and its metrics, over HTTP or a WebSocket.

It carries the words in which errors are told as well: those of the protocol that the request speaks.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mesh_common.errors import FieldFault

_KEY: Final = "mesh.request"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served, before a protocol gives it words. `status` is HTTP's."""

    status: int
    reason: str
    detail: str
    fields: Sequence[FieldFault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class ErrorDialect(Protocol):
    """How a protocol tells errors."""

    @property
    def media_type(self) -> str: ...

    def render(self, refusal: Refusal, record: "RequestRecord") -> tuple[int, bytes]:
        """The status, which may be another one in this protocol, and the body."""
        ...


@dataclass(slots=True)
class RequestRecord:
    """`headers` are added to the answer, whatever it is; `members` to the error, should there be one."""

    trace_id: str
    started_s: float
    """On the clock of `time.perf_counter`."""
    dialect: ErrorDialect
    headers: dict[str, str] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def attach(self, scope: MutableMapping[str, Any]) -> None:
        """To the scope of an ASGI connection, where `record_of` finds it."""
        scope[_KEY] = self


def record_of(scope: Mapping[str, Any]) -> RequestRecord:
    record: Any = scope[_KEY]
    if not isinstance(record, RequestRecord):
        raise TypeError("the request is not observed")
    return record
