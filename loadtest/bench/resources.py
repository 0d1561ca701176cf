"""What processes hold: memory, open connections, CPU time. Read from /proc, for processes of one's own user."""

import resource
from collections.abc import Mapping
from contextlib import suppress
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
    switches: int
    """Times that a thread was given a core: each begins with what the last one left in the caches."""


def held(pids: Mapping[str, int]) -> Mapping[str, Held]:
    """By the names of `pids`, each with all its descendants: PostgreSQL with its backends."""
    return {name: _held(_family(pid)) for name, pid in pids.items()}


def own_cpu_s() -> float:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def machine_cpu_s() -> float:
    """Of all processes of this machine so far, without what the host took."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq) / _TICKS_S


def _held(pids: list[int]) -> Held:
    memory_kib = sum(_memory_kib(pid) for pid in pids)
    sockets = sum(_sockets(pid) for pid in pids)
    stats = [_read(pid, "stat").rpartition(")")[2].split() for pid in pids]
    # Fields 14 to 17 of proc(5): own time in user and kernel mode, and that of children that were waited for.
    cpu_s = sum(int(stat[index]) for stat in stats if stat for index in (11, 12, 13, 14)) / _TICKS_S
    switches = sum(_switches(pid, task) for pid in pids for task in _tasks(pid))
    return Held(memory_kib / 1_024, sockets, cpu_s, switches)


def _family(pid: int) -> list[int]:
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        found.append(parent)
        # A child belongs to the thread that started it.
        for task in _tasks(parent):
            queue += [int(child) for child in _read(parent, f"task/{task}/children").split()]
    return found


def _tasks(pid: int) -> list[str]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return [task.name for task in Path(f"/proc/{pid}/task").iterdir()]
    return []


def _switches(pid: int, task: str) -> int:
    lines = _read(pid, f"task/{task}/status").splitlines()
    return sum(int(line.split()[1]) for line in lines if "_ctxt_switches" in line)


def _memory_kib(pid: int) -> int:
    lines = _read(pid, "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _sockets(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        return sum(_is_socket(link) for link in Path(f"/proc/{pid}/fd").iterdir())
    return 0


def _is_socket(link: Path) -> bool:
    with suppress(FileNotFoundError):
        return str(link.readlink()).startswith("socket:")
    return False


def _read(pid: int, name: str) -> str:
    """Empty for a process that has ended: connections come and go, and with them PostgreSQL's backends."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""
