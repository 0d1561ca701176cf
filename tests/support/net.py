"""Ports for tests.

Each process claims its own range, so that two workers, or two test runs on one machine, never choose the same port.
"""

import itertools
import socket
from dataclasses import dataclass
from functools import cache
from typing import Final, Self

from mesh_dev.ports import LOOPBACK, PORTS_PER_STACK, PortPlan, is_free

# Below the ephemeral ports (32768 and up), which any outgoing connection may take, and below those of `bench`.
_BASES: Final = range(11_000, 22_900, 700)
# A worker runs at most three stacks at once: the shared one, a module's and a test's.
_STACKS: Final = 5


class NoPortError(Exception):
    """Every range, or every port of this process's range, is in use."""


@dataclass(slots=True)
class PortRange:
    """The ports of one process. They are handed out in turn, so that no port is reused soon."""

    base: int
    _guard: socket.socket
    _single: "itertools.cycle[int]"
    _stack: "itertools.cycle[int]"

    @classmethod
    def claim(cls) -> Self:
        """Claims the first range that no live process holds.

        The owner of a range keeps the range's first port bound: the kernel frees it however the process ends.
        """
        for base in _BASES:
            guard = socket.socket()
            try:
                guard.bind((LOOPBACK, base))
            except OSError:
                guard.close()
                continue
            stacks = range(base + _BASES.step - _STACKS * PORTS_PER_STACK, base + _BASES.step, PORTS_PER_STACK)
            return cls(base, guard, itertools.cycle(range(base + 1, stacks.start)), itertools.cycle(stacks))
        raise NoPortError(f"other test runs hold all port ranges from {_BASES.start} to {_BASES.stop}")

    def release(self) -> None:
        self._guard.close()

    def port(self) -> int:
        for port in itertools.islice(self._single, _BASES.step):
            if is_free(port):
                return port
        raise NoPortError(f"no port is free between {self.base} and {self.base + _BASES.step}")

    def stack_base(self) -> int:
        """A base for a stack whose ports are all free, not counting those of additional replicas."""
        for base in itertools.islice(self._stack, _STACKS):
            if all(is_free(port) for port in PortPlan(base).needed().values()):
                return base
        raise NoPortError(f"no ports are free for another stack between {self.base} and {self.base + _BASES.step}")


def free_port() -> int:
    """An unused port of loopback from the range of this process."""
    return _own_range().port()


def free_port_base() -> int:
    """A base for a stack's ports, from the range of this process."""
    return _own_range().stack_base()


@cache
def _own_range() -> PortRange:
    return PortRange.claim()
