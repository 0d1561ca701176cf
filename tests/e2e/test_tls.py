"""A whole mesh whose services use mutual TLS: the same conversation, and a run relayed between two agents."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
import httpx
import pytest
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh_common.grpc.client import ServiceCalls, open_channel
from mesh_common.grpc.edges import SERVICES, ServiceName
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.ids import UserId, new_id
from mesh_common.jwt import SigningKey
from mesh_common.process.tls_files import ChannelTls, TlsFiles
from mesh_dev.settings import DevSettings
from mesh_dev.stack import Stack, StackOptions
from mesh_dev.wait import LOOPBACK
from support.api import User, eventually, new_user
from support.certificates import new_authority
from support.net import free_port_base
from support.stack import READY_WITHIN_S
from support.subjects import personal

ENDLESS = "[[sim:itl=100]] [[sim:tokens=2000]]"
TIMEOUT_S = 20.0
# The distance from a service's gRPC port to its health port. That port is free in the stack's range.
_HEALTH_STEP = 50


@dataclass(frozen=True)
class TlsMesh:
    """`gateway` is the gateway's certificate, for direct calls to services."""

    stack: Stack
    gateway: TlsFiles

    def agent_target(self, replica: int) -> str:
        return f"ipv4:{LOOPBACK}:{self.stack.environments.ports_of('agent', replica).api}"

    def open_agent(self, replica: int) -> grpc.aio.Channel:
        return open_channel(self.agent_target(replica), tls=ChannelTls(self.gateway, "agent"))

    def calls(self) -> ServiceCalls:
        key = SigningKey.from_pem(self.stack.environments.secrets.service_keys["gateway"])
        return ServiceCalls("agent", ServiceTokenSigner("gateway", key))

    async def relays(self, replica: int, verb: str) -> float:
        """The number of calls of this RPC from an agent to another one."""
        port = self.stack.environments.ports_of("agent", replica).metrics
        async with httpx.AsyncClient(trust_env=False) as http:
            lines = (await http.get(f"http://{LOOPBACK}:{port}/metrics")).text.splitlines()
        name = f'mesh_rpc_client_duration_seconds_count{{code="OK",rpc="mesh.agent.v1.AgentService/{verb}"}} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TlsMesh]:
    folder = tmp_path_factory.mktemp("tls")
    authority = new_authority()
    # One name each, as in the chart, so that a certificate of one service is never valid for another.
    files = {service: authority.issue(folder / service, service) for service in SERVICES}

    def with_tls(service: ServiceName, _replica: int, env: Mapping[str, str]) -> Mapping[str, str]:
        return {**env, **tls_environment(service, files[service], env)}

    options = StackOptions(
        settings=DevSettings(port_base=free_port_base(), data_dir=folder / "stack"),
        models="simulator",
        has_traces=False,
        simulator_env={"SIM_TOKENS": "20"},
        replicas={"agent": 2},
        rewire=with_tls,
        ready_within_s=READY_WITHIN_S,
    )
    async with Stack(options) as stack:
        yield TlsMesh(stack, files["gateway"])


def tls_environment(service: ServiceName, files: TlsFiles, env: Mapping[str, str]) -> dict[str, str]:
    prefix = service.upper()
    variables = {
        f"{prefix}_GRPC_TLS_CERT_FILE": str(files.certificate),
        f"{prefix}_GRPC_TLS_KEY_FILE": str(files.key),
        f"{prefix}_GRPC_TLS_CA_FILE": str(files.authorities),
    }
    if service != "gateway":
        variables[f"{prefix}_GRPC_HEALTH_PORT"] = str(int(env[f"{prefix}_GRPC_PORT"]) + _HEALTH_STEP)
    return variables


@pytest.fixture
async def user(mesh: TlsMesh) -> AsyncIterator[User]:
    async with new_user(mesh.stack.url) as registered:
        yield registered


async def test_chat_goes_through_all_five_services(user: User) -> None:
    turn = await user.chat("My name is Ada and I am allergic to peanuts.")
    remembered = await eventually("the memory", user.memories, bool)
    later = await user.chat("What am I allergic to?")

    async def scores() -> Any:
        return (await user.get(f"/runs/{turn.run_id}/scores")).json()

    judged = await eventually("the scores", scores, lambda found: found["items"] and not found["is_pending"])

    assert turn.last.type == later.last.type == "run_finished"
    assert remembered
    assert later.memories
    assert judged["items"]


async def test_run_is_followed_and_cancelled_through_the_other_agent(mesh: TlsMesh, user: User) -> None:
    user_id = UserId(UUID((await user.get("/auth/me")).json()["id"]))
    calls, run_id = mesh.calls(), str(new_id())

    async with mesh.open_agent(0) as owner, mesh.open_agent(1) as other:
        start = agent_pb2.StartRunRequest(run_id=run_id, message=ENDLESS)
        stub = agent_pb2_grpc.AgentServiceStub(owner)
        async with calls.stream(stub.StartRun, start, timeout_s=TIMEOUT_S, subject=personal(user_id)) as started:
            own = aiter(started)
            while not (await anext(own)).event.HasField("message_delta"):
                pass
            relayed = agent_pb2_grpc.AgentServiceStub(other)
            follow = agent_pb2.FollowRunRequest(run_id=run_id)
            async with calls.stream(
                relayed.FollowRun, follow, timeout_s=TIMEOUT_S, subject=personal(user_id)
            ) as followed:
                seen = aiter(followed)
                first = (await anext(seen)).event
                cancel = agent_pb2.CancelRunRequest(run_id=run_id)
                await calls.unary(relayed.CancelRun, cancel, timeout_s=TIMEOUT_S, subject=personal(user_id))
                last = [response.event async for response in seen][-1]

    assert first.HasField("run_started")
    assert last.HasField("run_cancelled")
    assert await mesh.relays(1, "CancelRun") >= 1
    assert await mesh.relays(1, "FollowRun") >= 1
    assert (await user.get(f"/runs/{run_id}")).json()["status"] == "cancelled"


async def test_agent_takes_no_call_in_the_clear(mesh: TlsMesh) -> None:
    async with open_channel(mesh.agent_target(0)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await agent_pb2_grpc.AgentServiceStub(channel).GetRun(agent_pb2.GetRunRequest(), timeout=TIMEOUT_S)

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_no_service_has_a_certificate_of_another(mesh: TlsMesh) -> None:
    """The auth service listens on its port; a client that expects the agent there rejects it."""
    target = f"ipv4:{LOOPBACK}:{mesh.stack.environments.ports_of('auth').api}"

    async with open_channel(target, tls=ChannelTls(mesh.gateway, "agent")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await agent_pb2_grpc.AgentServiceStub(channel).GetRun(agent_pb2.GetRunRequest(), timeout=TIMEOUT_S)

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
