"""Processes and pods die; the release keeps working, and the checker finds nothing lost or duplicated."""

import time

import pytest
from mesh_common.grpc.edges import SERVICES, ServiceName

from cluster.kubectl import eventually, name_of
from cluster.release import LEASE_TTL_S, Release
from cluster.report import Figures
from cluster.storm import note, storm
from cluster.verdict import keeps_promises

# If the pod's containers share a process namespace, the service is not PID 1, and a signal from inside reaches it.
_KILL = """
import os, pathlib, signal, sys
mine = f"mesh_{sys.argv[1]}"
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit() and int(entry.name) != os.getpid():
        words = (entry / "cmdline").read_bytes().split(b"\\0")
        if mine.encode() in words and b"serve" in words:
            os.kill(int(entry.name), signal.SIGKILL)
            print("killed")
"""


@pytest.mark.parametrize("service", SERVICES)
async def test_kill_of_a_process_loses_nothing(mesh: Release, figures: Figures, service: ServiceName) -> None:
    async with storm(await mesh.url(), await mesh.marks(), users=10, streams=40, lease_ttl_s=LEASE_TTL_S) as one:
        begun_s = time.monotonic()
        pod = await mesh.pod(service)
        said = await mesh.kubectl.python(pod, _KILL, service)
        await eventually(f"{pod} is started again", lambda: _has_restarted(mesh, pod), within_s=90)
        await mesh.settled()
        note(one, "kill", service, begun_s)

    assert "killed" in said
    keeps_promises(figures, one, f"kill -9 of {service}")


@pytest.mark.parametrize("service", SERVICES)
async def test_deletion_of_a_pod_loses_nothing(mesh: Release, figures: Figures, service: ServiceName) -> None:
    async with storm(await mesh.url(), await mesh.marks(), users=10, streams=40, lease_ttl_s=LEASE_TTL_S) as one:
        begun_s = time.monotonic()
        await mesh.kubectl.run("delete", "pod", await mesh.pod(service), "--wait=false")
        await mesh.ready(service, 2)
        await mesh.settled()
        note(one, "restart", service, begun_s)

    keeps_promises(figures, one, f"deletion of a pod of {service}")
    assert not one.failed


async def _has_restarted(mesh: Release, pod: str) -> bool:
    found = await mesh.kubectl.get("pod", pod)
    statuses = found["status"].get("containerStatuses", ())
    return any(status["restartCount"] and status["ready"] for status in statuses) and name_of(found) == pod
