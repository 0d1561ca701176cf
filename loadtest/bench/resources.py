"""Memory, open connections and CPU time of processes, read from /proc. Works for processes of the same user."""

import resource
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import sysconf
from pathlib import Path

_TICKS_S = sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Held:
    memory_mib: float
    """Proportional set size: shared pages are divided among the processes."""
    sockets: int
    cpu_s: float
    switches: int
    """How often a thread was scheduled on a core. Each time it starts with the caches that another one left."""


def held(pids: Mapping[str, int]) -> Mapping[str, Held]:
    """Resources by the names of `pids`. Each includes all descendants, e.g. PostgreSQL's backends."""
    return {name: _held(_family(pid)) for name, pid in pids.items()}


def connections_to(pids: Mapping[str, int], ports: Collection[int]) -> Mapping[str, int]:
    """Established TCP connections by the names of `pids`, including descendants, with one end on one of `ports`."""
    sockets = {inode for path in ("tcp", "tcp6") for inode in _established(Path("/proc/net", path), ports)}
    return {name: sum(_count(one, sockets) for one in _family(pid)) for name, pid in pids.items()}


def own_cpu_s() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def machine_cpu_s() -> float:
    """CPU time of all processes of this machine so far, without time stolen by the host."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq) / _TICKS_S


def _held(pids: list[int]) -> Held:
    memory_kib = sum(_memory_kib(pid) for pid in pids)
    sockets = sum(len(_sockets(pid)) for pid in pids)
    stats = [_read(pid, "stat").rpartition(")")[2].split() for pid in pids]
    # Fields 14 to 17 of proc(5): own time in user and kernel mode, and that of reaped children.
    cpu_s = sum(int(stat[index]) for stat in stats if stat for index in (11, 12, 13, 14)) / _TICKS_S
    switches = sum(_switches(pid, task) for pid in pids for task in _tasks(pid))
    return Held(memory_kib / 1_024, sockets, cpu_s, switches)


def _family(pid: int) -> list[int]:
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        found.append(parent)
        # The kernel lists a child under the thread that started it.
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


def _sockets(pid: int) -> list[str]:
    """Inodes."""
    with suppress(FileNotFoundError, ProcessLookupError):
        targets = [_target(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        return [target[len("socket:[") : -1] for target in targets if target.startswith("socket:[")]
    return []


def _target(link: Path) -> str:
    with suppress(FileNotFoundError):
        return str(link.readlink())
    return ""


def _count(pid: int, sockets: Collection[str]) -> int:
    return sum(inode in sockets for inode in _sockets(pid))


def _established(table: Path, ports: Collection[int]) -> Iterator[str]:
    """Inodes. Fields as in proc_net_tcp(5): addresses end in `:<port in hex>`, state 01 is established."""
    for line in table.read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if state == "01" and any(int(end.rpartition(":")[2], 16) in ports for end in (local, remote)):
            yield rest[5]


def _read(pid: int, name: str) -> str:
    """Empty for a process that has ended, such as the PostgreSQL backend of a closed connection."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""
