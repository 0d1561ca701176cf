"""What requests cost, and so which limit of their user they count against. Runs have a limit of their own (`runs`)."""

from enum import StrEnum
from typing import Annotated, assert_never

from fastapi import Depends

from mesh_gateway.edge.deps import AdminDep, CallerDep, GatewayDep, RecordDep
from mesh_gateway.identity.access_tokens import Principal
from mesh_gateway.limits.rate_limit import Limit
from mesh_gateway.settings import GatewaySettings


class Cost(StrEnum):
    """The name of a limit."""

    MEMORY = "memory"
    """A text is embedded, and vectors are compared."""
    LIST = "list"
    """Many rows are read."""
    WRITE = "write"
    """Rows are written without a model."""


def limit_of(cost: Cost, settings: GatewaySettings) -> Limit:
    match cost:
        case Cost.MEMORY:
            return Limit(cost, settings.memory_limit_per_minute)
        case Cost.LIST:
            return Limit(cost, settings.list_limit_per_minute)
        case Cost.WRITE:
            return Limit(cost, settings.write_limit_per_minute)
        case _:
            assert_never(cost)


class _Charged:
    """The caller, after the request is counted. Raises RateLimited."""

    def __init__(self, cost: Cost) -> None:
        self._cost = cost

    async def __call__(self, gateway: GatewayDep, caller: CallerDep, record: RecordDep) -> Principal:
        await gateway.limits.charge(limit_of(self._cost, gateway.settings), str(caller.user_id), record)
        return caller


class _AdminCharged(_Charged):
    """As `_Charged`, for administrators only. A user who is refused is not counted."""

    async def __call__(self, gateway: GatewayDep, caller: AdminDep, record: RecordDep) -> Principal:
        return await super().__call__(gateway, caller, record)


MemoryUserDep = Annotated[Principal, Depends(_Charged(Cost.MEMORY))]
ReaderDep = Annotated[Principal, Depends(_Charged(Cost.LIST))]
WriterDep = Annotated[Principal, Depends(_Charged(Cost.WRITE))]
AdminReaderDep = Annotated[Principal, Depends(_AdminCharged(Cost.LIST))]
AdminWriterDep = Annotated[Principal, Depends(_AdminCharged(Cost.WRITE))]
