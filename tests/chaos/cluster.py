"""The mesh under test: two gateways, two agents, one of each other part, and proxies between them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh_common.grpc.edges import SERVICES, ServiceName
from mesh_dev.parts import PythonPart
from mesh_dev.ports import PortPlan, replica_name
from mesh_dev.postgres import EmbeddedPostgres
from mesh_dev.settings import DevSettings
from mesh_dev.stack import Stack, StackOptions
from mesh_dev.valkey import EmbeddedValkey
from mesh_dev.wait import LOOPBACK
from simulator.client import SimulatorAdmin
from simulator.rules import Action, Match, Rule
from support.net import free_port_base
from support.stack import READY_WITHIN_S
from support.template import copied

from chaos.marks import MarkServer, open_marks
from chaos.proxy import FaultProxy, open_proxy

REPLICAS: Final[Mapping[ServiceName, int]] = {"gateway": 2, "agent": 2}
# Short, so that a takeover fits into a schedule of some ten seconds; other times derive from it.
LEASE_TTL_S: Final = 3.0
_DRAIN_S: Final = "1.5"
_UNLIMITED: Final = "1000000"
_SERVICE_ENV: Final[Mapping[ServiceName, Mapping[str, str]]] = {
    "gateway": {
        "GATEWAY_LOGIN_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_CHAT_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_MEMORY_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_LIST_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_WRITE_LIMIT_PER_MINUTE": _UNLIMITED,
    },
    "agent": {
        "AGENT_LEASE_TTL_S": str(LEASE_TTL_S),
        "AGENT_RECALL_TIMEOUT_S": "0.3",
        # The agent must give up on an unreachable provider before the schedule times out.
        "AGENT_MODEL_CONNECT_TIMEOUT_S": "1.5",
        "AGENT_MODEL_READ_TIMEOUT_S": "1.5",
        "AGENT_EVAL_SAMPLE_RATIO": "0.02",
        # The default while auth is away is no tool, for users whose entitlements the agent does not know. The checker
        # expects the effects of these.
        "AGENT_DEFAULT_TOOLS": '["mark_once", "mark_idempotent"]',
        # Few, so that a crowd can take all of them (`crowd`).
        "AGENT_DATABASE_POOL_SIZE": "6",
        "AGENT_DATABASE_MAX_OVERFLOW": "2",
    },
}


type ServiceEnv = Mapping[ServiceName, Mapping[str, str]]
type Process = PythonPart | EmbeddedPostgres | EmbeddedValkey


@dataclass(frozen=True, slots=True)
class Cluster:
    stack: Stack
    links: Mapping[str, FaultProxy]
    marks: MarkServer
    gateway_urls: tuple[str, ...]
    """The addresses for clients, through proxies."""

    @property
    def processes(self) -> Mapping[str, Process]:
        found: dict[str, Process] = {**self.stack.replicas}
        return found | {"postgres": self.stack.postgres, "valkey": self.stack.valkey}

    @asynccontextmanager
    async def odd_model(self) -> AsyncIterator[None]:
        """Chat answers come in odd forms while the block runs."""
        async with SimulatorAdmin(f"http://{LOOPBACK}:{self.stack.ports.model}") as simulator:
            await simulator.put_rules([Rule(match=Match(structured=False), action=Action(fault="odd"))])
            try:
                yield
            finally:
                await simulator.clear_rules()

    @property
    def pids(self) -> Mapping[str, int]:
        return {name: process.child.pid for name, process in self.processes.items()}


@asynccontextmanager
async def open_cluster(
    data_dir: Path,
    service_env: ServiceEnv | None = None,
    simulator_env: Mapping[str, str] | None = None,
    template: Path | None = None,
) -> AsyncIterator[Cluster]:
    """Ready when entered; every process has exited when left. Arguments override the defaults here.

    `template` is a migrated data folder (support.template); without one, the cluster creates its database itself.
    """
    given = service_env or {}
    if template:
        await copied(template, data_dir)
    ports = PortPlan(free_port_base())
    async with AsyncExitStack() as opened:
        links = {
            name: await opened.enter_async_context(open_proxy(name, port)) for name, port in link_targets(ports).items()
        }
        marks = await opened.enter_async_context(open_marks())
        wires = _Wires(ports, links, marks)
        options = StackOptions(
            settings=DevSettings(port_base=ports.base, data_dir=data_dir),
            models="simulator",
            has_traces=False,
            service_env={name: {**_SERVICE_ENV.get(name, {}), **given.get(name, {})} for name in SERVICES},
            # Nothing here reads the log, and a campaign has many request bodies.
            simulator_env={"SIM_TOKENS": "12", "SIM_REQUEST_LOG": "0", **(simulator_env or {})},
            replicas=REPLICAS,
            is_migrated=template is not None,
            ready_within_s=READY_WITHIN_S,
            rewire=wires.rewire,
        )
        stack = await opened.enter_async_context(Stack(options))
        urls = tuple(f"http://{LOOPBACK}:{links[f'client>{name}'].port}" for name in names_of("gateway"))
        yield Cluster(stack, links, marks, urls)


def names_of(service: ServiceName) -> list[str]:
    return [replica_name(service, number) for number in range(REPLICAS[service])]


def link_targets(ports: PortPlan) -> dict[str, int]:
    """The target port of each link on which faults can be injected."""
    targets: dict[str, int] = {}
    for number, name in enumerate(names_of("gateway")):
        targets[f"client>{name}"] = ports.gateway(number).api
    for number, name in enumerate(names_of("agent")):
        targets[f"gateway>{name}"] = ports.agent(number).api
        targets[f"agent>{name}"] = ports.agent(number).api
        targets[f"{name}>postgres"] = ports.postgres
        targets[f"{name}>model"] = ports.model
    return targets


@dataclass(frozen=True, slots=True)
class _Wires:
    """Routes each process's connections through the proxies."""

    ports: PortPlan
    links: Mapping[str, FaultProxy]
    marks: MarkServer

    def rewire(self, service: ServiceName, replica: int, env: Mapping[str, str]) -> Mapping[str, str]:
        prefix = service.upper()
        changed = {**env, f"{prefix}_DRAIN_S": _DRAIN_S, f"{prefix}_TRACE_SAMPLE_RATIO": "0"}
        if service == "gateway":
            agents = ",".join(f"{LOOPBACK}:{self.links[f'gateway>{name}'].port}" for name in names_of("agent"))
            changed["GATEWAY_AGENT_TARGET"] = f"ipv4:{agents}"
        if service == "agent":
            changed |= self._agent(replica_name(service, replica), changed)
        return changed

    def _agent(self, name: str, env: Mapping[str, str]) -> dict[str, str]:
        database = f"{LOOPBACK}:{self.ports.postgres}"
        proxied = f"{LOOPBACK}:{self.links[f'{name}>postgres'].port}"
        return {
            "AGENT_DATABASE_URL": env["AGENT_DATABASE_URL"].replace(database, proxied),
            "AGENT_OPENAI_BASE_URL": f"http://{LOOPBACK}:{self.links[f'{name}>model'].port}/v1",
            "AGENT_ADVERTISED_ADDRESS": f"{LOOPBACK}:{self.links[f'agent>{name}'].port}",
            "AGENT_HTTP_TOOLS": self.marks.agent_setting(),
        }


PROCESS_NAMES: Final = (
    *(replica_name(name, number) for name in SERVICES for number in range(REPLICAS.get(name, 1))),
    "postgres",
    "valkey",
)
LINK_NAMES: Final = tuple(link_targets(PortPlan(0)))
