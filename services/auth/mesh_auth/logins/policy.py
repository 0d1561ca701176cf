"""How many logins may fail, and how long the next one must wait then (docs/adr/0027)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from mesh_auth.domain import LoginFailures

# After this much time without a failure, earlier ones no longer count. Each such pause grants the free failures again:
# pauses of an hour would give an attacker 240 tries a day, and the longest wait gives 96 (NIST SP 800-63B,
# 3.2.2: at most 100 consecutive failures).
FORGOTTEN_AFTER: Final = timedelta(days=1)
# Bearable for an owner who tries several passwords.
_FIRST_WAIT_S: Final = 15
_MAX_WAIT_S: Final = 900
_MAX_DOUBLINGS: Final = 10
# A login in progress that is older than this never ends: its process has died, or its database call failed. Longer than
# any login takes (20 s for the hash without a caller's deadline), and than clocks of replicas differ.
GIVEN_UP_AFTER: Final = timedelta(minutes=1)
# How long, and for how many addresses, an account remembers where its owner logged in.
KNOWN_FOR: Final = timedelta(days=30)
MAX_KNOWN_ADDRESSES: Final = 20


NONE: Final = LoginFailures(0, datetime.min.replace(tzinfo=UTC))


def current(found: LoginFailures | None, now: datetime) -> LoginFailures:
    """`found` without failures of long ago, and without logins that never end."""
    if found is None:
        return NONE
    pending = tuple(begun_at for begun_at in found.pending if begun_at > now - GIVEN_UP_AFTER)
    is_recent = found.last_at > now - FORGOTTEN_AFTER
    return replace(found if is_recent else NONE, pending=pending)


def is_crowded(failures: LoginFailures, free: int) -> bool:
    """Whether another try could be one failure too many, depending on how those in progress end."""
    return len(failures.pending) >= max(1, free - failures.count)


def wait_s(failures: LoginFailures, free: int, now: datetime) -> float:
    """How long the next try must wait; 0 if it need not."""
    if failures.count < free:
        return 0.0
    doublings = min(failures.count - free, _MAX_DOUBLINGS)
    until = failures.last_at + timedelta(seconds=min(_MAX_WAIT_S, _FIRST_WAIT_S * 2**doublings))
    return max(0.0, (until - now).total_seconds())
