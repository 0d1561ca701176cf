"""What processes hold: memory, open connections, CPU time. Read from /proc, for processes of one's own user."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import sysconf
from pathlib import Path

from chaos.cluster import Cluster

_PAGE = sysconf("SC_PAGE_SIZE")
_TICKS_S = sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Held:
    rss_mib: float
    sockets: int
    cpu_s: float


def held(cluster: Cluster) -> Mapping[str, Held]:
    """By process; PostgreSQL with its backends, each page that they share counted once for each."""
    return {name: _held(_family(process.child.pid)) for name, process in cluster.processes.items()}


def _held(pids: list[int]) -> Held:
    rss = sum(int(_read(pid, "statm").split()[1]) for pid in pids) * _PAGE
    sockets = sum(_sockets(pid) for pid in pids)
    stats = [_read(pid, "stat").rpartition(")")[2].split() for pid in pids]
    # Fields 14 to 17 of proc(5): own time in user and kernel mode, and that of children that were waited for.
    cpu_s = sum(int(stat[index]) for stat in stats for index in (11, 12, 13, 14)) / _TICKS_S
    return Held(rss / 2**20, sockets, cpu_s)


def _family(pid: int) -> list[int]:
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        found.append(parent)
        children = Path(f"/proc/{parent}/task/{parent}/children")
        queue += [int(child) for child in children.read_text().split()] if children.exists() else []
    return found


def _sockets(pid: int) -> int:
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    return sum(str(link).startswith("socket:") for link in links)


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
