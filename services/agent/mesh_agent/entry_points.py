"""Code of other packages in this process, found by their entry points."""

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import structlog
from prometheus_client import Gauge

log = structlog.get_logger()


GRAPHS: Final = "mesh.graphs"
TOOLS: Final = "mesh.tools"


def packages() -> frozenset[str]:
    """Top-level packages of all that is installed in these groups."""
    points = (point for group in (GRAPHS, TOOLS) for point in entry_points(group=group))
    return frozenset(point.module.partition(".")[0] for point in points)


def usable[T](group: str, load: Callable[[EntryPoint], T], *, unusable: Gauge, event: str) -> Iterator[T]:
    """What `load` makes of each entry point. One that fails is logged as `event` and counted, and the others are used.

    Imports the packages, which may take seconds.
    """
    for point in entry_points(group=group):
        try:
            loaded = load(point)
        except Exception as error:  # noqa: BLE001 - anybody's code, which must not keep the agent from starting
            log.error(event, name=point.name, error=type(error).__name__, fault=str(error)[:500])  # noqa: TRY400
            unusable.labels(point.name).set(1)
        else:
            yield loaded
