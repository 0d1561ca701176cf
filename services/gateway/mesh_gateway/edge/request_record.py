"""What one HTTP request gathers on its way, for its answer, its log line and its metrics."""

from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import Scope

_KEY: Final = "mesh.request"
# Asked every few seconds by machines: neither traced nor logged, never refused.
PROBES: Final = frozenset({"/healthz", "/readyz"})
# The status when nobody was there any more to be answered; metrics and logs alone see it (nginx made it common).
CLIENT_GONE: Final = 499


@dataclass(slots=True)
class RequestRecord:
    """`headers` are added to the answer, whatever it is; `members` to the problem, should there be one."""

    trace_id: str
    started_s: float
    """On the clock of `time.perf_counter`."""
    headers: dict[str, str] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def attach(self, scope: Scope) -> None:
        scope[_KEY] = self


def record_of(scope: Scope) -> RequestRecord:
    record: Any = scope[_KEY]
    if not isinstance(record, RequestRecord):
        raise TypeError("the request is not observed")
    return record
