"""The replica that executes a run is killed, or freezes, during the answer: the client sees only a pause.

Two gateways and two agents; one HTTP request without retries. `make nightly` runs it with production's lease.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Literal

import httpx
import psycopg
import pytest
from chaos.cluster import Cluster, names_of, open_cluster
from mesh_agent.settings import AgentSettings
from mesh_common.ids import new_id
from mesh_dev.mesh_client import API, Event, events_of
from mesh_dev.wait import LOOPBACK
from prometheus_client.parser import text_string_to_metric_families
from support.api import User, eventually, new_user

REPLY = " ".join(f"word{number}" for number in range(60))
# The answer takes 3 s, and is repeated by another owner.
PACE = "[[sim:itl=50]]"
LEASES = [
    pytest.param(4.0, id="short-lease"),
    pytest.param(AgentSettings.model_fields["lease_ttl_s"].default, id="production-lease", marks=pytest.mark.nightly),
]
# A takeover takes 10 s at most. The rest is for the first token of the next attempt and for a busy machine.
PAUSE_S = 15.0

type Harm = Literal["kill", "pause"]
HARMS = pytest.mark.parametrize("harm", ["kill", "pause"])


@pytest.fixture(scope="module", params=LEASES)
async def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mesh_template: Path
) -> AsyncIterator[Cluster]:
    env = {"AGENT_LEASE_TTL_S": str(request.param)}
    folder = tmp_path_factory.mktemp("owner-dies")
    async with open_cluster(folder, {"agent": env}, template=mesh_template) as opened:
        yield opened


@pytest.fixture
async def guest(cluster: Cluster) -> AsyncIterator[User]:
    async with new_user(cluster.gateway_urls[0]) as user:
        yield user


@asynccontextmanager
async def put_right(cluster: Cluster) -> AsyncIterator[None]:
    """Makes both agents run again at the end of the block."""
    try:
        yield
    finally:
        for name in names_of("agent"):
            agent = cluster.stack.replicas[name]
            agent.child.resume()
            if not agent.child.is_running:
                await agent.start()


async def owned_run(cluster: Cluster, message: str) -> tuple[str, str] | None:
    """The run of this message and the process that owns it; None before the run is claimed."""
    async with await psycopg.AsyncConnection.connect(cluster.stack.postgres.url_of("mesh")) as connection:
        found = await (await connection.execute(_OWNER, {"message": message})).fetchone()
    if found is None:
        return None
    ports = {cluster.links[f"agent>{name}"].port: name for name in names_of("agent")}
    return str(found[0]), ports[int(found[1].removeprefix(f"{LOOPBACK}:"))]


_OWNER = """
    SELECT l.run_id, l.owner_address FROM agent.leases l
    JOIN agent.messages m ON m.run_id = l.run_id AND m.part = 0 WHERE m.content = %(message)s
"""


async def shared(cluster: Cluster) -> dict[str, float]:
    """The first gateway's metrics of shared streams by name, and the number of cuts by cause."""
    port = cluster.stack.environments.ports_of("gateway", 0).metrics
    async with httpx.AsyncClient(trust_env=False) as http:
        metrics = (await http.get(f"http://{LOOPBACK}:{port}/metrics")).raise_for_status().text
    return {
        sample.labels.get("cause", family.name): sample.value
        for family in text_string_to_metric_families(metrics)
        if family.name.startswith("mesh_gateway_shared_")
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


async def all_agents_shared(cluster: Cluster, user: User) -> None:
    """Waits until the first gateway follows the runs it starts on shared streams, whichever agent starts them."""
    async with asyncio.timeout(30):
        while (await shared(cluster))["mesh_gateway_shared_streams"] < len(names_of("agent")):
            await user.post("/chatbot/chat", {"message": "Hello"})


async def take_away(cluster: Cluster, name: str, harm: Harm) -> None:
    agent = cluster.stack.replicas[name]
    if harm == "kill":
        await agent.kill()
    else:
        agent.child.pause()


async def owner_harmed(cluster: Cluster, message: str, harm: Harm) -> str:
    owned = await owned_run(cluster, message)
    assert owned
    await take_away(cluster, owned[1], harm)
    return owned[1]


def attempts_of(events: list[Event]) -> dict[int, list[Event]]:
    found: dict[int, list[Event]] = {}
    for event in events:
        found.setdefault(int(event.id.split(":")[1]), []).append(event)
    return found


@HARMS
async def test_open_stream_bridges_the_death_of_the_owner(cluster: Cluster, guest: User, harm: Harm) -> None:
    message = f"{new_id()} {PACE}[[sim:reply={REPLY}]]"
    thread_id = await guest.new_thread()
    events: list[Event] = []
    came_s: list[float] = []
    owner: str | None = None
    await all_agents_shared(cluster, guest)
    cuts = (await shared(cluster)).get("stream", 0)

    async with (
        put_right(cluster),
        guest.open_stream(f"/threads/{thread_id}/runs/stream", {"message": message}) as (response, source),
    ):
        async for event in source:
            events.append(event)
            came_s.append(time.monotonic())
            if event.type == "message_delta" and owner is None:
                owner = await owner_harmed(cluster, message, harm)
        run = (await guest.get(f"/runs/{events[0].run_id}")).json()

    attempts = attempts_of(events)
    types = [event.type for event in events]
    assert response.status_code == 200
    assert types.count("run_restarted") == 1
    assert types[-1] == "run_finished"
    assert types.count("run_finished") == 1
    assert "run_failed" not in types
    assert list(attempts) == [1, 2]
    assert all([event.seq for event in events] == list(range(1, len(events) + 1)) for events in attempts.values())
    assert "".join(event.fields["text"] for event in attempts[2] if event.type == "message_delta") == REPLY
    assert max(after - before for before, after in pairwise(came_s)) < PAUSE_S
    assert (await shared(cluster)).get("stream", 0) > cuts
    assert (run["status"], run["attempt"], run["message"]["content"]) == ("succeeded", 2, REPLY)


@HARMS
async def test_answer_in_one_piece_bridges_the_death_of_the_owner(cluster: Cluster, guest: User, harm: Harm) -> None:
    message = f"{new_id()} {PACE}[[sim:reply={REPLY}]]"

    async with put_right(cluster), asyncio.TaskGroup() as group:
        asked = group.create_task(guest.post("/chatbot/chat", {"message": message}))
        owned = await eventually("the run", lambda: owned_run(cluster, message), bool)
        assert owned
        await first_words(guest, owned[0])
        await take_away(cluster, owned[1], harm)
        response = await asked
        run = (await guest.get(f"/runs/{owned[0]}")).json()

    answer = response.json()
    assert response.status_code == 200, response.text
    assert (answer["run_id"], answer["message"]["content"]) == (owned[0], REPLY)
    assert answer["finish_reason"] == "stop"
    assert (run["status"], run["attempt"]) == ("succeeded", 2)


async def first_words(user: User, run_id: str) -> None:
    """Returns when the answer has started, and closes the stream that showed it."""
    async with user.http.stream("GET", f"{API}/runs/{run_id}/events") as response:
        async for event in events_of(response):
            if event.type == "message_delta":
                return
