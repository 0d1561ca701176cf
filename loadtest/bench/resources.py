"""What processes hold: memory, open connections, CPU time. Read from /proc, for processes of one's own user."""

import resource
from collections.abc import Mapping
from dataclasses import dataclass
from os import sysconf
from pathlib import Path

_TICKS_S = sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Held:
    memory_mib: float
    """Proportional: pages that processes share are divided among them."""
    sockets: int
    cpu_s: float


def held(pids: Mapping[str, int]) -> Mapping[str, Held]:
    """By the names of `pids`, each with all its descendants: PostgreSQL with its backends."""
    return {name: _held(_family(pid)) for name, pid in pids.items()}


def own_cpu_s() -> float:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _held(pids: list[int]) -> Held:
    memory_kib = sum(_memory_kib(pid) for pid in pids)
    sockets = sum(_sockets(pid) for pid in pids)
    stats = [_read(pid, "stat").rpartition(")")[2].split() for pid in pids]
    # Fields 14 to 17 of proc(5): own time in user and kernel mode, and that of children that were waited for.
    cpu_s = sum(int(stat[index]) for stat in stats for index in (11, 12, 13, 14)) / _TICKS_S
    return Held(memory_kib / 1_024, sockets, cpu_s)


def _family(pid: int) -> list[int]:
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        found.append(parent)
        children = Path(f"/proc/{parent}/task/{parent}/children")
        queue += [int(child) for child in children.read_text().split()] if children.exists() else []
    return found


def _memory_kib(pid: int) -> int:
    lines = _read(pid, "smaps_rollup").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _sockets(pid: int) -> int:
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    return sum(str(link).startswith("socket:") for link in links)


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
