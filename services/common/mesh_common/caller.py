"""The caller and the deadline of the call being served: set once, read where needed.

This is a context variable and not a parameter because every use case needs the subject and every outgoing call needs
the deadline. The gRPC server sets it for a call; background work sets it for its run or job.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mesh_common.errors import DeadlineExceeded, Unauthenticated
from mesh_common.ids import UserId
from mesh_common.subject import Subject

# With less time left, starting a call is pointless: a local unary call alone takes about 1 ms.
_FLOOR_S = 0.005
# The part of the caller's time that a service reserves for rendering the answer.
_MARGIN_S = 0.05
# The margin of a short deadline is a tenth of it, so that two hops do not halve a budget of 300 ms.
_MARGIN_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated call. `service` signed the token; `subject` is the one it acts for, if any."""

    service: str
    subject: Subject | None
    deadline_s: float | None
    """On the monotonic clock; None if the caller set none."""
    is_background: bool = False
    """True for runs and jobs: nobody waits for a response."""


_current: ContextVar[Caller | None] = ContextVar("mesh_caller", default=None)


@contextmanager
def acting(caller: Caller | None) -> Iterator[None]:
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def require_subject() -> Subject:
    """The subject that this call acts for. Raises Unauthenticated if there is none."""
    subject = current_subject()
    if subject is None:
        raise Unauthenticated("This call must act for a user.", reason="USER_REQUIRED")
    return subject


def require_user() -> UserId:
    """The user of `require_subject`."""
    return require_subject().user_id


def is_serving() -> bool:
    """Whether somebody waits for a response to what happens now."""
    caller = _current.get()
    return caller is not None and not caller.is_background


def current_subject() -> Subject | None:
    caller = _current.get()
    return caller.subject if caller else None


def remaining_s(limit_s: float) -> float:
    """The time an outgoing call may take: `limit_s`, or the time left to the caller minus a margin if that is less.

    Raises DeadlineExceeded at once if that is too little to start a call.
    """
    caller = _current.get()
    if caller is None or caller.deadline_s is None:
        return limit_s
    left_s = caller.deadline_s - time.monotonic()
    left_s -= min(_MARGIN_S, left_s * _MARGIN_RATIO)
    if left_s < _FLOOR_S:
        raise DeadlineExceeded("The service did not answer in time.")
    return min(limit_s, left_s)
