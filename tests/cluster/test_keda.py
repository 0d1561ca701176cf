"""KEDA scales agents by the number of pending and running runs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from chaos.client import PASSWORD
from mesh_common.ids import new_id
from mesh_dev.mesh_client import MeshClient

from cluster.kubectl import Kubectl
from cluster.processes import ProgramError
from cluster.release import Release, open_release
from cluster.report import Figures
from cluster.settings import ClusterSettings

_QUICK: Final = {
    "scaleDown": {
        "stabilizationWindowSeconds": 15,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 10}],
    }
}
_RUNS: Final = 30
_RUNS_A_REPLICA: Final = 5
_MOST: Final = 3
# Each run takes half a minute, so that replicas added later still find pending runs.
_MESSAGE: Final = "Slowly. [[sim:itl=500]][[sim:reply={words}]]"
_WORDS: Final = " ".join(f"w{number}" for number in range(60))


@pytest.fixture(scope="module")
async def keda_mesh(loaded: ClusterSettings) -> AsyncIterator[Release]:
    changes = {
        "services": {
            "agent": {
                "env": {"AGENT_MAX_RUNS": _RUNS_A_REPLICA},
                "autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": _MOST, "behavior": _QUICK},
            }
        },
        "keda": {
            "enabled": True,
            "pollingInterval": 5,
            "gateway": {"enabled": False},
            "agent": {"runsPerReplica": _RUNS_A_REPLICA},
        },
    }
    try:
        await Kubectl("default").run("get", "crd", "scaledobjects.keda.sh")
    except ProgramError:
        pytest.skip("the cluster has no KEDA")
    async with open_release(loaded, "mesh-keda-test", changes) as release:
        yield release


async def test_pending_runs_bring_agents_and_none_is_lost_when_they_go(keda_mesh: Release, figures: Figures) -> None:
    mesh = keda_mesh
    await mesh.ready("agent", 1, within_s=120)
    async with MeshClient(await mesh.url()) as client:
        email = f"{new_id().hex}@example.com"
        (await client.register(email, PASSWORD)).raise_for_status()
        (await client.login(email, PASSWORD)).raise_for_status()

        run_ids = [await _start(client) for _ in range(_RUNS)]
        await mesh.ready("agent", _MOST, within_s=180)
        runs = [await _ended(client, run_id) for run_id in run_ids]
        await mesh.ready("agent", 1, within_s=240)
        runs += [await _ended(client, await _start(client))]

    figures.say(f"KEDA: {_RUNS} runs brought {_MOST} agents, {sum(run['attempt'] > 1 for run in runs)} taken over")
    assert [run["status"] for run in runs] == ["succeeded"] * (_RUNS + 1)


async def _start(client: MeshClient) -> str:
    thread_id = (await client.post("/threads", {})).raise_for_status().json()["id"]
    body = {"message": _MESSAGE.format(words=_WORDS)}
    return str((await client.post(f"/threads/{thread_id}/runs", body)).raise_for_status().json()["run_id"])


async def _ended(client: MeshClient, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(300):
        while True:
            run: dict[str, Any] = (await client.get(f"/runs/{run_id}", wait_s=30)).raise_for_status().json()
            if run["status"] not in {"pending", "running"}:
                return run
