"""The ports of all parts, at fixed offsets from one base, so that two stacks need only two bases."""

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from mesh_common.grpc.edges import SERVICES, ServiceName

from mesh_dev.errors import PortTakenError

LOOPBACK = "127.0.0.1"
# Offset of the ports of each further replica of a service.
REPLICA_STEP = 20
# Ports reserved per stack, including those for additional replicas in tests.
PORTS_PER_STACK = 100


@dataclass(frozen=True, slots=True)
class ServicePorts:
    """The ports of one replica of a service: its API (HTTP for the gateway, gRPC for the others) and its metrics."""

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
        """The embedded model server, or the simulator that replaces it."""
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
        """Every port of a stack by the name of its part. `replicas` defaults to one per service."""
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
    """The name of a replica's process and log: `agent`, `agent-2`."""
    return service if replica == 0 else f"{service}-{replica + 1}"


def require_free(ports: Mapping[str, int], base: int) -> None:
    """Checks that no other program listens on the ports.

    Raises:
        PortTakenError: names the first port in use and the setting that changes all ports.
    """
    for name, port in ports.items():
        if not is_free(port):
            raise PortTakenError(
                f"port {port}, needed for {name}, is taken: stop what listens there, "
                f"or set MESH_PORT_BASE to another base (it is {base})"
            )


def free_base(bases: range) -> int:
    """One of `bases` whose ports are all free, chosen at random so that stacks started concurrently rarely collide.

    Raises:
        PortTakenError: there is no such base.
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
        # Without it, connections in TIME_WAIT of a stack that has just ended would look like a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
