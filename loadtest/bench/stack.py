"""The measured mesh: one process per service, the real database, the simulator as provider, no tracing."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from mesh_common.grpc.edges import SERVICES, ServiceName
from mesh_dev.ports import PORTS_PER_STACK, free_base
from mesh_dev.settings import DevSettings
from mesh_dev.stack import DATABASE, Stack, StackOptions

# Below the range of ephemeral ports.
_BASES: Final = range(24_000, 25_000, PORTS_PER_STACK)
_UNLIMITED: Final = "1000000"
# Rate limits are raised out of the way; all other settings are as in a release.
_RAISED: Final[Mapping[ServiceName, Mapping[str, str]]] = {
    "gateway": {
        "GATEWAY_LOGIN_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_CHAT_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_MEMORY_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_LIST_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_WRITE_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_MAX_STREAMS_PER_USER": "1000",
        "GATEWAY_MAX_OPEN_STREAMS": "5000",
        "GATEWAY_MAX_CONNECTIONS": "6000",
    },
    "agent": {"AGENT_RECALL_TIMEOUT_S": "0.3"},
    "memory": {"MEMORY_RECALL_TIMEOUT_S": "0.3"},
}
# Delays the work after a turn for longer than a batch takes.
_WITHOUT_BACKGROUND: Final = {"AGENT_EVAL_SAMPLE_RATIO": "0", "AGENT_REMEMBER_DELAY_S": "60"}
_WITH_BACKGROUND: Final = {"AGENT_EVAL_SAMPLE_RATIO": "0.1"}


@dataclass(frozen=True, slots=True)
class Pace:
    """The provider's pace: `tokens` tokens, the first after `ttft_ms`, then one per `itl_ms`; 0 is a burst."""

    tokens: int = 100
    ttft_ms: float = 200.0
    itl_ms: float = 20.0

    @property
    def turn_s(self) -> float:
        """Time that the model alone takes."""
        return (self.ttft_ms + (self.tokens - 1) * self.itl_ms) / 1_000


PACED: Final = Pace()
BURST: Final = Pace(ttft_ms=0.0, itl_ms=0.0)


@dataclass(frozen=True, slots=True)
class Mesh:
    stack: Stack
    pace: Pace

    @property
    def url(self) -> str:
        return self.stack.url

    @property
    def pids(self) -> Mapping[str, int]:
        stack = self.stack
        services = {name: part.child.pid for name, part in stack.services.items()}
        others = {"postgres": stack.postgres.child.pid, "valkey": stack.valkey.child.pid}
        return services | others | {"simulator": stack.parts["simulator"].child.pid}

    @property
    def database_url(self) -> str:
        """The superuser's URL."""
        return self.stack.postgres.url_of(DATABASE)


@asynccontextmanager
async def open_mesh(
    data_dir: Path,
    pace: Pace,
    *,
    has_background: bool = False,
    counts_statements: bool = False,
    service_env: Mapping[str, str] | None = None,
) -> AsyncIterator[Mesh]:
    """`counts_statements` costs PostgreSQL some CPU: use it for counts, not times. `service_env` applies to all."""
    background = _WITH_BACKGROUND if has_background else _WITHOUT_BACKGROUND
    preload = {"shared_preload_libraries": "pg_stat_statements"} if counts_statements else {}
    options = StackOptions(
        settings=DevSettings(port_base=free_base(_BASES), data_dir=data_dir),
        models="simulator",
        has_traces=False,
        service_env={
            name: {
                f"{name.upper()}_TRACE_SAMPLE_RATIO": "0.01",
                **_RAISED.get(name, {}),
                **(background if name == "agent" else {}),
                **(service_env or {}),
            }
            for name in SERVICES
        },
        simulator_env={
            "SIM_TOKENS": str(pace.tokens),
            "SIM_TTFT_MS": str(pace.ttft_ms),
            "SIM_ITL_MS": str(pace.itl_ms),
            "SIM_REQUEST_LOG": "0",
        },
        postgres_settings=preload,
    )
    async with Stack(options) as stack:
        mesh = Mesh(stack, pace)
        if counts_statements:
            async with await psycopg.AsyncConnection.connect(mesh.database_url, autocommit=True) as connection:
                await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        yield mesh
