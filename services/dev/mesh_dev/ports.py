"""Which part listens where: fixed distances from one base, so that two stacks need only two bases."""

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from mesh_common.grpc.edges import SERVICES, ServiceName

from mesh_dev.errors import PortTakenError

LOOPBACK = "127.0.0.1"
# Second and third replicas of the services stand this far above the first.
REPLICA_STEP = 20
# The base may rise to here and leave room for the replicas of tests.
PORTS_PER_STACK = 100


@dataclass(frozen=True, slots=True)
class ServicePorts:
    """Where one replica of a service listens: its API (HTTP for the gateway, gRPC for the others) and its metrics."""

    api: int
    metrics: int


@dataclass(frozen=True, slots=True)
class PortPlan:
    """All ports of one stack."""

    base: int

    def gateway(self, replica: int = 0) -> ServicePorts:
        return self._service(0, replica)

    def auth(self, replica: int = 0) -> ServicePorts:
        return self._service(2, replica)

    def agent(self, replica: int = 0) -> ServicePorts:
        return self._service(4, replica)

    def memory(self, replica: int = 0) -> ServicePorts:
        return self._service(6, replica)

    def eval(self, replica: int = 0) -> ServicePorts:
        return self._service(8, replica)

    @property
    def postgres(self) -> int:
        return self.base + 10

    @property
    def valkey(self) -> int:
        return self.base + 11

    @property
    def model(self) -> int:
        """The embedded model server, or the simulator in its place."""
        return self.base + 12

    @property
    def embeddings(self) -> int:
        return self.base + 13

    @property
    def otlp(self) -> int:
        return self.base + 14

    @property
    def traces(self) -> int:
        return self.base + 15

    def of(self, service: ServiceName, replica: int = 0) -> ServicePorts:
        ports = {
            "gateway": self.gateway,
            "auth": self.auth,
            "agent": self.agent,
            "memory": self.memory,
            "eval": self.eval,
        }
        return ports[service](replica)

    def needed(self, replicas: Mapping[ServiceName, int] | None = None) -> dict[str, int]:
        """Every port of a stack by the name of the part; `replicas` are one of each service unless it says more."""
        counts = replicas or {}
        services = {
            replica_name(name, number): self.of(name, number)
            for name in SERVICES
            for number in range(counts.get(name, 1))
        }
        apis = {name: ports.api for name, ports in services.items()}
        metrics = {f"{name} metrics": ports.metrics for name, ports in services.items()}
        parts = {
            "postgres": self.postgres,
            "valkey": self.valkey,
            "model": self.model,
            "embeddings": self.embeddings,
            "otlp": self.otlp,
            "traces": self.traces,
        }
        return apis | metrics | parts

    def _service(self, offset: int, replica: int) -> ServicePorts:
        api = self.base + offset + replica * REPLICA_STEP
        return ServicePorts(api=api, metrics=api + 1)


def replica_name(service: ServiceName, replica: int) -> str:
    """What a replica's process and log are called: `agent`, `agent-2`."""
    return service if replica == 0 else f"{service}-{replica + 1}"


def require_free(ports: Mapping[str, int], base: int) -> None:
    """Refuse to start beside something that listens already.

    Raises:
        PortTakenError: names the first taken port and the setting that moves all of them.
    """
    for name, port in ports.items():
        if not is_free(port):
            raise PortTakenError(
                f"port {port}, needed for {name}, is taken: stop what listens there, "
                f"or set MESH_PORT_BASE to another base (it is {base})"
            )


def free_base(bases: range) -> int:
    """One of `bases` with all ports of a stack free right now; drawn, so that two stacks started at once rarely meet.

    Raises:
        PortTakenError: there is none.
    """
    for base in random.sample(bases, len(bases)):
        try:
            require_free(PortPlan(base).needed(), base)
        except PortTakenError:
            continue
        return base
    raise PortTakenError(f"no ports are free for another stack between {bases.start} and {bases.stop}")


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback."""
    with socket.socket() as probe:
        # Without it the connections of a stack that has just ended (TIME_WAIT) look like a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
