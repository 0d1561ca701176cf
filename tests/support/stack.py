"""Whole stacks for end-to-end tests: with the simulator, on their own ports, with limits that tests do not reach."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from mesh_common.grpc.edges import ServiceName
from mesh_dev.settings import DevSettings
from mesh_dev.stack import Stack, StackOptions

from support.net import free_port_base
from support.template import UNSAFE, copied

# Other workers start meshes too, and a session's fixture that fails fails every test that is left.
READY_WITHIN_S = 180.0
_UNLIMITED = "1000000"
_RAISED: Mapping[ServiceName, Mapping[str, str]] = {
    "gateway": {
        "GATEWAY_LOGIN_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_ANONYMOUS_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_CHAT_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_MEMORY_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_LIST_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_WRITE_LIMIT_PER_MINUTE": _UNLIMITED,
    },
    # The agent must give up on a hanging provider before a test times out.
    "agent": {"AGENT_MODEL_READ_TIMEOUT_S": "1.5", "AGENT_REMEMBER_DELAY_S": "0.2"},
    # mem0 uses one thread per turn; many users end a turn at the same time.
    "memory": {"MEMORY_EXTRACTION_CONCURRENCY": "8"},
    "eval": {"EVAL_RUNS_AT_ONCE": "4"},
}


@asynccontextmanager
async def open_stack(
    data_dir: Path,
    template: Path,
    *,
    has_traces: bool = False,
    service_env: Mapping[ServiceName, Mapping[str, str]] | None = None,
) -> AsyncIterator[Stack]:
    """A ready stack on a copy of `template` with the simulator; `service_env` is added to the raised limits."""
    given = service_env or {}
    settings = DevSettings(port_base=free_port_base(), data_dir=await copied(template, data_dir))
    options = StackOptions(
        settings=settings,
        models="simulator",
        has_traces=has_traces,
        service_env={name: {**_RAISED.get(name, {}), **given.get(name, {})} for name in (*_RAISED, *given)},
        simulator_env={"SIM_TOKENS": "20", "SIM_REQUEST_LOG": "5000"},
        postgres_settings=UNSAFE,
        is_migrated=True,
        ready_within_s=READY_WITHIN_S,
    )
    async with Stack(options) as stack:
        yield stack
