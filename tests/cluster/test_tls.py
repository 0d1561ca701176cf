"""The mesh with mutual TLS between its services."""

from collections.abc import AsyncIterator

import pytest
from chaos.client import PASSWORD
from mesh_common.ids import new_id
from mesh_dev.mesh_client import API, MeshClient, events_of

from cluster.certificates import tls_secrets
from cluster.metrics import rpcs_by_pod
from cluster.release import Release, open_release
from cluster.settings import ClusterSettings


@pytest.fixture(scope="module")
async def tls_mesh(loaded: ClusterSettings) -> AsyncIterator[Release]:
    changes = {"grpc": {"tls": {"enabled": True}}}
    async with open_release(loaded, "mesh-tls-test", changes, manifests=tls_secrets()) as release:
        yield release


async def test_chat_follow_and_cancel_through_another_agent(tls_mesh: Release) -> None:
    words = " ".join(f"w{number}" for number in range(100))
    message = f"Long. [[sim:itl=200]][[sim:reply={words}]]"
    async with MeshClient(await tls_mesh.url()) as client:
        email = f"{new_id().hex}@example.com"
        (await client.register(email, PASSWORD)).raise_for_status()
        (await client.login(email, PASSWORD)).raise_for_status()

        async with client.open_stream("/chatbot/chat/stream", {"message": message}) as (response, events):
            assert response.status_code == 200
            run_id = (await anext(events)).run_id
            # At least one follow goes to the agent that does not own the run, and is relayed.
            for _ in range(6):
                async with client.http.stream("GET", f"{API}/runs/{run_id}/events") as followed:
                    assert (await anext(events_of(followed))).seq == 1
            cancelled = await client.post(f"/runs/{run_id}/cancel")
            seen = [event async for event in events]

    assert cancelled.json()["status"] == "cancelled"
    assert seen[-1].type == "run_cancelled"


async def test_relays_were_made_between_agents(tls_mesh: Release) -> None:
    counts = await rpcs_by_pod(tls_mesh, "agent", "client", "AgentService/FollowRun")

    assert sum(counts.values()) > 0


async def test_plaintext_is_refused(tls_mesh: Release) -> None:
    [agent, *_] = await tls_mesh.kubectl.ready_pods("agent")
    script = (
        "import grpc\n"
        "from grpc_health.v1 import health_pb2, health_pb2_grpc\n"
        f"channel = grpc.insecure_channel('{agent['status']['podIP']}:50051')\n"
        "try:\n"
        "    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3)\n"
        "except grpc.RpcError as error:\n"
        "    print(error.code().name)\n"
    )

    assert await tls_mesh.kubectl.python(await tls_mesh.pod("gateway"), script) == "UNAVAILABLE\n"
