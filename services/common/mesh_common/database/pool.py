"""The bounds of a connection pool."""

from dataclasses import dataclass
from typing import Self

from mesh_common.process.settings import GrpcSettings


@dataclass(frozen=True, slots=True)
class Pool:
    """The bounds of one pool of a service. `name` labels its metrics."""

    name: str
    size: int
    max_overflow: int = 0

    @classmethod
    def of(cls, settings: GrpcSettings) -> Self:
        """The only pool of a service."""
        return cls("main", settings.database_pool_size, settings.database_max_overflow)

    @classmethod
    def share_of(cls, settings: GrpcSettings, name: str, share: float) -> Self:
        """A share (0..1) of the connections that the settings allow, at least one."""
        size = max(1, round(settings.database_pool_size * share))
        return cls(name, size, round(settings.database_max_overflow * share))
