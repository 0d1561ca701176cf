"""A complete mesh on this machine: the order of starts and stops, and the detection of parts that died."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mesh_admin.bootstrap_db import SCHEMAS
from mesh_admin.secrets import SecretSet, from_json, make_secrets, to_json
from mesh_common.grpc.edges import SERVICES, ServiceName

from mesh_dev import parts
from mesh_dev.console import say
from mesh_dev.folder_lock import FolderLock
from mesh_dev.models import ModelSource, choose_models
from mesh_dev.parts import PythonPart, python_program
from mesh_dev.ports import PortPlan, replica_name, require_free
from mesh_dev.postgres import EmbeddedPostgres
from mesh_dev.process import ChildProcess
from mesh_dev.progress import Progress, together
from mesh_dev.secret_file import write_private
from mesh_dev.service_environment import DRAIN_S, ServiceEnvironments
from mesh_dev.settings import DevSettings
from mesh_dev.valkey import EmbeddedValkey
from mesh_dev.wait import LOOPBACK, Waiter, grpc_serving, http_healthy

DATABASE: Final = "mesh"
# Time in addition to the drain, for flushing spans and closing pools.
STOP_MARGIN_S: Final = 7.0

type Rewire = Callable[[ServiceName, int, Mapping[str, str]], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """Options of a stack. `service_env` is added to each service's environment."""

    settings: DevSettings
    models: ModelSource
    has_traces: bool = True
    service_env: Mapping[ServiceName, Mapping[str, str]] = field(default_factory=dict)
    simulator_env: Mapping[str, str] = field(default_factory=dict)
    postgres_settings: Mapping[str, str] = field(default_factory=dict)
    ready_within_s: float = 60.0
    """How long each part may take until it is ready."""
    is_migrated: bool = False
    """The data folder's database has every role and the newest schemas: do not bootstrap or migrate it."""
    replicas: Mapping[ServiceName, int] = field(default_factory=dict)
    """Number of replicas per service; one by default."""
    rewire: Rewire = lambda _service, _replica, env: env
    """Changes one replica's final environment, e.g. to route its calls through a proxy."""
    say: Callable[[str], None] = say


class Stack:
    """`async with Stack(options) as stack:` starts a stack until it is ready, and always stops it after the block.

    If a part fails to start, all others are stopped.
    """

    def __init__(self, options: StackOptions) -> None:
        settings = options.settings
        self.ports = PortPlan(settings.port_base)
        self._say = options.say
        self._progress = Progress(options.say)
        self._data_dir = settings.data_dir
        self._lock = FolderLock(self._data_dir)
        # Silent, because `Progress` reports for all parts that start concurrently.
        self._waiter = Waiter(deadline_s=options.ready_within_s, say=lambda _: None)
        self.postgres = EmbeddedPostgres(self._data_dir, self.ports.postgres, self._waiter, options.postgres_settings)
        self.valkey = EmbeddedValkey(self._data_dir, self.ports.valkey, self._waiter)
        self.parts = _make_parts(options, self.ports, self._waiter)
        self.environments = ServiceEnvironments(
            ports=self.ports,
            secrets=_keep_secrets(self._data_dir),
            jwks_file=self._data_dir / "service-jwks.json",
            models=choose_models(options.models, self.ports, settings),
            redis_url=self.valkey.url,
            has_traces=options.has_traces,
            extra=options.service_env,
            replicas=options.replicas,
        )
        self._rewire = options.rewire
        self._is_migrated = options.is_migrated
        self.services: dict[ServiceName, PythonPart] = {name: self._service(name) for name in SERVICES}
        self.replicas = self._make_replicas()

    @property
    def url(self) -> str:
        """The gateway's URL."""
        return f"http://{LOOPBACK}:{self.ports.gateway().api}"

    @property
    def metrics_urls(self) -> dict[ServiceName, str]:
        return {name: f"http://{LOOPBACK}:{self.environments.ports_of(name).metrics}/metrics" for name in self.services}

    @property
    def traces_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.traces}"

    @property
    def model_url(self) -> str:
        """The URL of the model server or the simulator."""
        return f"http://{LOOPBACK}:{self.ports.model}"

    @property
    def log_dir(self) -> Path:
        return self._data_dir / "log"

    async def __aenter__(self) -> Self:
        await self.start_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_all()

    async def start_all(self) -> None:
        require_free(self._needed_ports(), self.ports.base)
        self._lock.take()
        try:
            await self._progress.all_ready(
                {
                    "database": self._start_database,
                    "valkey": self.valkey.start,
                    **{name: part.start for name, part in self.parts.items()},
                }
            )
            await self._progress.all_ready({name: part.start for name, part in self.replicas.items()})
        except BaseException:
            await self.stop_all()
            raise

    async def stop_all(self) -> None:
        """Stops everything in reverse order. Skips parts that never started."""
        self._say("stopping …")
        gateways = {replica_name("gateway", number) for number in self.environments.replica_numbers("gateway")}
        await together(*(self.replicas[name].stop() for name in gateways))
        await together(*(part.stop() for name, part in self.replicas.items() if name not in gateways))
        await together(*(part.stop() for part in self.parts.values()), self.valkey.stop())
        await self.postgres.stop()
        self._lock.release()

    async def watch(self) -> None:
        """Waits forever.

        Raises:
            ChildDiedError: a part ended unexpectedly.
        """
        await together(*(child.watch() for child in self._children()))

    async def start(self, service: ServiceName) -> None:
        await self.services[service].start()

    async def stop(self, service: ServiceName) -> None:
        await self.services[service].stop()

    async def restart(self, service: ServiceName) -> None:
        await self.services[service].restart()

    async def kill(self, service: ServiceName) -> None:
        """Ends the service as a crash would."""
        await self.services[service].kill()

    async def _start_database(self) -> None:
        await self.postgres.start()
        if self._is_migrated:
            return
        admin_url = await self.postgres.create_database(DATABASE)
        environments = self.environments
        await self._run_once("bootstrap-db", ["mesh_admin", "bootstrap-db"], environments.of_bootstrap(admin_url))
        await together(
            *(
                self._run_once(f"migrate-{schema}", [f"mesh_{schema}", "migrate"], environments.of_migration(schema))
                for schema in SCHEMAS
            )
        )

    async def _run_once(self, name: str, module: list[str], env: Mapping[str, str]) -> None:
        child = ChildProcess(python_program(name, module, env), self.log_dir)
        try:
            await child.run_to_end()
        finally:
            await child.stop()

    def _make_replicas(self) -> dict[str, PythonPart]:
        """Every service process by its name. `services` also holds the first of each service."""
        return {
            replica_name(name, number): self._service(name, number) if number else self.services[name]
            for name in SERVICES
            for number in self.environments.replica_numbers(name)
        }

    def _service(self, name: ServiceName, replica: int = 0) -> PythonPart:
        env = self._rewire(name, replica, self.environments.of(name, replica))
        program = python_program(
            replica_name(name, replica), [f"mesh_{name}", "serve"], env, stop_timeout_s=DRAIN_S + STOP_MARGIN_S
        )
        port = self.environments.ports_of(name, replica).api
        # If gRPC uses mutual TLS, health has its own port without TLS.
        health_port = int(env.get(f"{name.upper()}_GRPC_HEALTH_PORT") or port)
        probe = http_healthy(port, "/readyz") if name == "gateway" else grpc_serving(health_port, "readiness")
        return PythonPart(program, probe, self._data_dir, self._waiter)

    def _children(self) -> list[ChildProcess]:
        python = [part.child for part in (*self.parts.values(), *self.replicas.values())]
        return [self.postgres.child, self.valkey.child, *python]

    def _needed_ports(self) -> dict[str, int]:
        needed = self.ports.needed(self.environments.replicas)
        has = {"model": {"model", "simulator"}, "embeddings": {"embeddings"}, "otlp": {"traces"}, "traces": {"traces"}}
        return {name: port for name, port in needed.items() if name not in has or has[name] & self.parts.keys()}


def _make_parts(options: StackOptions, ports: PortPlan, waiter: Waiter) -> dict[str, PythonPart]:
    data_dir = options.settings.data_dir
    made: dict[str, PythonPart] = {}
    if options.models == "simulator":
        made["simulator"] = parts.simulator(data_dir, ports.model, options.simulator_env, waiter)
    else:
        made["embeddings"] = parts.embedding_server(data_dir, ports.embeddings, waiter)
    if options.models == "embedded":
        made["model"] = parts.model_server(data_dir, ports.model, waiter)
    if options.has_traces:
        made["traces"] = parts.otlp_receiver(data_dir, ports.otlp, ports.traces, waiter)
    return made


def _keep_secrets(data_dir: Path) -> SecretSet:
    """The secrets of this data folder, generated at its first start. Also writes the public keys next to them."""
    path = data_dir / "secrets.json"
    if not path.exists():
        write_private(path, to_json(make_secrets()))
    secret_set = from_json(path.read_text())
    write_private(data_dir / "service-jwks.json", secret_set.service_jwks())
    return secret_set
