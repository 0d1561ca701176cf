"""Wires the agent: opens pools, channels and the provider's session, and closes them in reverse order.

Nothing is created at import time, so that tests and commands can create their own.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import grpc
from mesh.agent.v1 import agent_pb2_grpc
from mesh.auth.v1 import auth_pb2_grpc
from mesh.eval.v1 import eval_pb2_grpc
from mesh.memory.v1 import memory_pb2_grpc
from mesh_common.clock import SystemClock
from mesh_common.database.asyncpg_pool import open_database
from mesh_common.database.listener import Listener
from mesh_common.database.pool import Pool
from mesh_common.database.revisions import newest_revision
from mesh_common.grpc.client import ServiceCalls, open_channel
from mesh_common.grpc.edges import ServiceName
from mesh_common.grpc.service import Drain, ServiceParts, open_grpc_service
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.ids import new_id
from mesh_common.jobs.queue import JobQueue
from mesh_common.jobs.servicer import PROTO_SERVICE as DEAD_LETTERS
from mesh_common.jobs.servicer import DeadLetterServicer
from mesh_common.jobs.worker import JobWorker
from mesh_common.jwt import SigningKey
from mesh_common.process.watchdog import Watchdog

from mesh_agent.assistants.file_source import FileSource
from mesh_agent.assistants.planning import Planner
from mesh_agent.background.outbox import DeliverOutbox
from mesh_agent.background.retention import Retention
from mesh_agent.clients.auth import AuthClient
from mesh_agent.clients.evaluation import EvalClient
from mesh_agent.clients.memory import MemoryClient
from mesh_agent.clients.peers import PeerAgentClients
from mesh_agent.clients.personal_memories import PersonalMemoriesClient
from mesh_agent.convert_events import SharedEvents
from mesh_agent.default_plan import DefaultPlan
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.entitlements import CachedEntitlements
from mesh_agent.entry_points import packages
from mesh_agent.events.fan_out import SharedStreams
from mesh_agent.execution.attempt import AttemptParts
from mesh_agent.execution.ending import EndRun
from mesh_agent.execution.executor import Executor, ExecutorLimits
from mesh_agent.execution.run_task import RunTask, RunTaskParts
from mesh_agent.execution.waiting import WaitingFollowers
from mesh_agent.graph.coded.definitions import installed_graphs
from mesh_agent.graph.loop import AgentLoop
from mesh_agent.kept_plans import KeptPlans
from mesh_agent.known_assistants import KnownAssistants
from mesh_agent.llm.breaker import Breaker
from mesh_agent.llm.fallback import FallbackModel
from mesh_agent.llm.openai_compatible.provider import OpenAICompatible
from mesh_agent.llm.provider import ChatProvider
from mesh_agent.llm.registry import ModelRegistry, model_of
from mesh_agent.metrics import LOOP_BLOCKED
from mesh_agent.ports import EntitlementsSource, Judge, Memories, PeerAgents, PersonalMemories, UsageSink
from mesh_agent.servicer import AgentServicer
from mesh_agent.settings import AgentSettings
from mesh_agent.store import Database
from mesh_agent.store.checkpoint_database import CheckpointDatabase, open_checkpoint_database
from mesh_agent.store.claims import CHANNEL, Owner
from mesh_agent.tools.configured import open_tool_sources, open_tools
from mesh_agent.tools.registry import ToolRegistry
from mesh_agent.usecases.assistants import Assistants
from mesh_agent.usecases.cancel_run import CancelRun
from mesh_agent.usecases.follow_run import FollowRun
from mesh_agent.usecases.fork_thread import ForkThread
from mesh_agent.usecases.interrupts import Interrupts
from mesh_agent.usecases.plan_run import PlanRun
from mesh_agent.usecases.read_runs import Runs
from mesh_agent.usecases.resume_run import ResumeRun
from mesh_agent.usecases.start_run import StartRun
from mesh_agent.usecases.threads import Threads

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_OUTBOX: Final = "agent.outbox"
_OUTBOX_CONCURRENCY = 32
# langgraph-checkpoint-postgres writes through psycopg, and only for turns with tools.
_CHECKPOINTS_POOL_SHARE = 0.25
# Heartbeats, claims and the count of pending runs, which no request may delay: a main pool at 1.5 times its capacity
# delayed heartbeats until every lease of the replica was lost. One connection each.
LEASES_POOL: Final = Pool("leases", size=3)
_OUTBOX_TIMEOUT_S = 15.0
# Share of a connection's maximum age during which a shared stream accepts runs. The last of them have the rest of the
# age, and the grace period, to end.
_SHARED_STREAM_SHARE = 0.5
# Wildcard listen addresses. No client can connect to them.
_ANY_HOST = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not listened on


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The other services and the other replicas of the agent."""

    entitlements: EntitlementsSource
    usage: UsageSink
    memories: Memories
    personal_memories: PersonalMemories
    judge: Judge
    peers: PeerAgents


@asynccontextmanager
async def open_service(settings: AgentSettings) -> AsyncIterator[Drain]:
    async with open_neighbours(settings) as neighbours, open_agent(settings, neighbours) as drain:
        yield drain


@asynccontextmanager
async def open_neighbours(settings: AgentSettings) -> AsyncIterator[Neighbours]:
    async with AsyncExitStack() as stack:
        signer = ServiceTokenSigner("agent", SigningKey.from_pem(settings.service_key.get_secret_value()))

        async def channel_to(callee: ServiceName, target: str) -> grpc.aio.Channel:
            return await stack.enter_async_context(open_channel(target, tls=settings.tls_to(callee)))

        auth_channel = await channel_to("auth", settings.auth_target)
        memory_channel = await channel_to("memory", settings.memory_target)
        eval_channel = await channel_to("eval", settings.eval_target)
        auth = AuthClient(ServiceCalls("auth", signer), auth_pb2_grpc.AuthServiceStub(auth_channel), SystemClock())
        memory_calls = ServiceCalls("memory", signer)
        memory_stub = memory_pb2_grpc.MemoryServiceStub(memory_channel)
        peers = PeerAgentClients(ServiceCalls("agent", signer), settings.tls_to("agent"))
        stack.push_async_callback(peers.close)
        yield Neighbours(
            entitlements=auth,
            usage=auth,
            memories=MemoryClient(memory_calls, memory_stub, settings.recall_timeout_s),
            personal_memories=PersonalMemoriesClient(memory_calls, memory_stub),
            judge=EvalClient(ServiceCalls("eval", signer), eval_pb2_grpc.EvalServiceStub(eval_channel)),
            peers=peers,
        )


@asynccontextmanager
async def open_agent(settings: AgentSettings, neighbours: Neighbours) -> AsyncIterator[Drain]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(settings, schema="agent", pool=Pool.share_of(settings, "main", 1 - _CHECKPOINTS_POOL_SHARE))
        )
        checkpoints = await stack.enter_async_context(
            open_checkpoint_database(
                settings, schema="agent", pool=Pool.share_of(settings, "checkpoints", _CHECKPOINTS_POOL_SHARE)
            )
        )
        leases = await stack.enter_async_context(open_database(settings, schema="agent", pool=LEASES_POOL))
        parts = await _run_parts(stack, settings, database, checkpoints, neighbours)
        queue = JobQueue(_OUTBOX)
        letters = DeadLetterServicer(database, _OUTBOX)
        end_run = EndRun(database, queue, settings.remember_delay_s, settings.eval_sample_ratio)
        executor = _executor(settings, leases, database, RunTaskParts(database, parts, end_run))
        delivery = DeliverOutbox(database, neighbours.usage, neighbours.memories, neighbours.judge)
        worker = JobWorker(
            database,
            queue,
            delivery.handlers(),
            name="outbox",
            concurrency=_OUTBOX_CONCURRENCY,
            timeout_s=_OUTBOX_TIMEOUT_S,
            limits=settings.job_limits(),
        )
        executor.after_end = worker.wake
        listener = Listener(settings.database_url.get_secret_value(), CHANNEL, executor.wake)
        retention = Retention(database, settings.keep_events_s, settings.retention_interval_s)
        shared = _shared_streams(settings, executor.owner.address)
        assistants = await _assistants(settings, database, parts)
        servicer = _servicer(settings, database, executor, parts, assistants, neighbours.peers, shared)
        revision = newest_revision(MIGRATIONS)
        service = ServiceParts(
            service="agent",
            proto_services=("mesh.agent.v1.AgentService", DEAD_LETTERS),
            register=letters.beside(partial(agent_pb2_grpc.add_AgentServiceServicer_to_server, servicer)),
            readiness=(lambda: database.not_ready_reason(revision),),
            background=(
                executor.run,
                executor.waiting.run,
                worker.run,
                listener.run,
                retention.run,
                assistants.run,
                Watchdog(packages(), "agent", LOOP_BLOCKED).run,
                *await open_tool_sources(stack, settings, parts.loop.tools),
            ),
            before_stop=lambda: _drain(shared, executor, settings.drain_s),
        )
        yield await stack.enter_async_context(open_grpc_service(settings, service))


async def _drain(shared: SharedStreams[SharedEvents], executor: Executor, drain_s: float) -> None:
    shared.stop()
    await executor.drain(drain_s)


async def _run_parts(
    stack: AsyncExitStack,
    settings: AgentSettings,
    database: Database,
    checkpoints: CheckpointDatabase,
    neighbours: Neighbours,
) -> AttemptParts:
    clock = SystemClock()
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=settings.model_connect_timeout_s, sock_read=settings.model_read_timeout_s
    )
    connector = aiohttp.TCPConnector(limit=settings.max_runs)
    # No cookies: a cookie that a provider sets in one user's call must not be sent in another's.
    cookies = aiohttp.DummyCookieJar()
    session = await stack.enter_async_context(
        aiohttp.ClientSession(timeout=timeout, connector=connector, cookie_jar=cookies)
    )
    models = [model_of(entry, settings.openai_base_url, settings.openai_api_key) for entry in settings.models]
    chat_models: dict[str, ChatProvider] = {model.name: OpenAICompatible(model, session) for model in models}
    tools = ToolRegistry(await open_tools(stack, settings, clock, neighbours.personal_memories))
    return AttemptParts(
        database=database,
        loop=AgentLoop(checkpoints, FallbackModel(chat_models, Breaker(clock)), tools, installed_graphs),
        models=ModelRegistry(models),
        plans=KeptPlans(database, DefaultPlan(settings, models, tools), settings.keep_events_s, clock),
        entitlements=CachedEntitlements(neighbours.entitlements, _default_entitlements(settings), clock),
        memories=neighbours.memories,
        interrupt_ttl_s=settings.interrupt_ttl_s,
    )


def _default_entitlements(settings: AgentSettings) -> Entitlements:
    """What users may use while auth cannot say."""
    first = tuple(entry.name for entry in settings.models[:1])
    return Entitlements(
        models=first if settings.default_models is None else settings.default_models,
        tools=settings.default_tools,
        context_tokens=settings.default_context_tokens,
    )


async def _assistants(settings: AgentSettings, database: Database, parts: AttemptParts) -> KnownAssistants:
    """Reads the files once, so that the first request finds their assistants."""
    files = FileSource(settings.assistants_dir)
    planner = Planner(parts.plans.current_default, parts.loop.graphs, settings.tool_servers)
    await files.refresh(planner)
    known = KnownAssistants(database, parts.plans.current_default, planner, files, SystemClock())
    parts.loop.is_enabled = known.is_enabled
    return known


def _executor(settings: AgentSettings, leases: Database, database: Database, parts: RunTaskParts) -> Executor:
    address = settings.advertised_address or f"{settings.grpc_host}:{settings.grpc_port}"
    limits = ExecutorLimits(
        settings.max_runs, settings.max_pending_runs, settings.lease_ttl_s, settings.max_answer_bytes
    )
    owner = Owner(str(new_id()), address)
    return Executor(leases, owner, partial(RunTask, parts=parts), limits, WaitingFollowers(database, owner))


def _shared_streams(settings: AgentSettings, address: str) -> SharedStreams[SharedEvents]:
    host = address.rpartition(":")[0].strip("[]")
    return SharedStreams(
        SharedEvents,
        address=None if host in _ANY_HOST else address,
        takes_runs_for_s=settings.grpc_max_connection_age_s * _SHARED_STREAM_SHARE,
    )


def _servicer(
    settings: AgentSettings,
    database: Database,
    executor: Executor,
    parts: AttemptParts,
    known: KnownAssistants,
    peers: PeerAgents,
    shared: SharedStreams[SharedEvents],
) -> AgentServicer:
    cancel = CancelRun(database, executor, peers)
    start_run = StartRun(
        database,
        executor,
        PlanRun(parts.entitlements, parts.plans, known),
        known,
        parts.memories,
        cancel,
        settings.max_pending_runs_per_user,
    )
    resume_run = ResumeRun(start_run, parts.loop.tools)
    interrupts = Interrupts(database)
    runs = Runs(database, parts.entitlements, parts.models)
    follow = FollowRun(database, executor, peers)
    threads = Threads(database, cancel, JobQueue(_OUTBOX), executor.after_end)
    assistants = Assistants(database, known, settings.max_assistants_per_user)
    return AgentServicer(
        assistants=assistants,
        threads=threads,
        runs=runs,
        fork_thread=ForkThread(database),
        start_run=start_run,
        resume_run=resume_run,
        interrupts=interrupts,
        cancel=cancel,
        follow=follow,
        shared=shared,
    )
