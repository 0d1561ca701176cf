"""What processes hold: memory, open connections, CPU time. Read from /proc, for processes of one's own user."""

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
    """Proportional: pages that processes share are divided among them."""
    sockets: int
    cpu_s: float
    switches: int
    """Times that a thread was given a core: each begins with what the last one left in the caches."""


def held(pids: Mapping[str, int]) -> Mapping[str, Held]:
    """By the names of `pids`, each with all its descendants: PostgreSQL with its backends."""
    return {name: _held(_family(pid)) for name, pid in pids.items()}


def connections_to(pids: Mapping[str, int], ports: Collection[int]) -> Mapping[str, int]:
    """Established TCP connections by the names of `pids`, each with its descendants, of which either end is one of
    `ports`."""
    sockets = {inode for path in ("tcp", "tcp6") for inode in _established(Path("/proc/net", path), ports)}
    return {name: sum(_count(one, sockets) for one in _family(pid)) for name, pid in pids.items()}


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
    sockets = sum(len(_sockets(pid)) for pid in pids)
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
    """Inodes; the table's fields are those of proc_net_tcp(5): addresses end in `:<port in hex>`, state 01 is it."""
    for line in table.read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if state == "01" and any(int(end.rpartition(":")[2], 16) in ports for end in (local, remote)):
            yield rest[5]


def _read(pid: int, name: str) -> str:
    """Empty for a process that has ended: connections come and go, and with them PostgreSQL's backends."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""
