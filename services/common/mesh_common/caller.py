"""Who is calling and until when: set once by the gRPC server, read wherever it matters.

A context variable and not a parameter, because every use case of every service needs the subject and every outgoing
call the deadline; it is set at the edge only.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mesh_common.errors import DeadlineExceeded, Unauthenticated
from mesh_common.ids import UserId
from mesh_common.subject import Subject

# Below this there is no point in starting a call: a local unary call alone takes about 1 ms.
_FLOOR_S = 0.005
# What a service keeps of its caller's time to render the answer.
_MARGIN_S = 0.05
# A short deadline keeps a tenth as margin, so that a budget of 300 ms is not halved by two hops.
_MARGIN_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated call. `service` signed the token; `subject` is whom it acts for, if anybody."""

    service: str
    subject: Subject | None
    deadline_s: float | None
    """On the monotonic clock; None when the caller set none."""


_current: ContextVar[Caller | None] = ContextVar("mesh_caller", default=None)


@contextmanager
def acting(caller: Caller | None) -> Iterator[None]:
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def require_subject() -> Subject:
    """Whom this call acts for. Raises Unauthenticated when the call acts for nobody."""
    subject = current_subject()
    if subject is None:
        raise Unauthenticated("This call must act for a user.", reason="USER_REQUIRED")
    return subject


def require_user() -> UserId:
    """The user of `require_subject`."""
    return require_subject().user_id


def current_subject() -> Subject | None:
    caller = _current.get()
    return caller.subject if caller else None


def remaining_s(limit_s: float) -> float:
    """How long an outgoing call may take: `limit_s`, or what the caller left, minus a margin.

    Raises DeadlineExceeded at once when that is too little to start.
    """
    caller = _current.get()
    if caller is None or caller.deadline_s is None:
        return limit_s
    left_s = caller.deadline_s - time.monotonic()
    left_s -= min(_MARGIN_S, left_s * _MARGIN_RATIO)
    if left_s < _FLOOR_S:
        raise DeadlineExceeded("The service did not answer in time.")
    return min(limit_s, left_s)
