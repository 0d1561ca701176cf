"""Installation, from an empty namespace to a serving release."""

import orjson
import pytest
from mesh_common.grpc.edges import SERVICES

from cluster.kubectl import name_of
from cluster.processes import ProgramError
from cluster.release import RELEASE, Release

pytestmark = pytest.mark.short


async def test_release_is_ready_and_passes_its_own_test(mesh: Release) -> None:
    logs = await mesh.helm.test()

    for service in SERVICES:
        assert await mesh.kubectl.ready_pods(service)
    assert "Phase:          Succeeded" in logs


async def test_every_pod_runs_under_enforced_restricted_pod_security(mesh: Release) -> None:
    namespace = await mesh.kubectl.get("namespace", mesh.kubectl.namespace)
    spec = {"containers": [{"name": "root", "image": "none"}]}
    refused = orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": spec}).decode()

    labels = namespace["metadata"]["labels"]
    with pytest.raises(ProgramError, match="violates PodSecurity"):
        await mesh.kubectl.run("create", "--dry-run=server", "--filename", "-", stdin=refused)

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


async def test_services_hold_no_token_of_the_kubernetes_api(mesh: Release) -> None:
    script = "import os; print(os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount/token'))"

    for service in SERVICES:
        assert await mesh.kubectl.python(await mesh.pod(service), script) == "False\n"


async def test_first_administrator_is_made_as_the_notes_say(mesh: Release) -> None:
    argv = ("python", "-m", "mesh_auth", "create-admin", "--email", "root@example.com")

    said = await mesh.kubectl.run("exec", f"deployment/{RELEASE}-auth", "--", *argv)

    assert "Administrator root@example.com was created." in said


async def test_migrations_ran_once_in_a_job_named_by_its_content(mesh: Release) -> None:
    jobs = [name_of(job) for job in await mesh.kubectl.find("jobs") if "migrate" in name_of(job)]

    assert len(jobs) == 1
    before = await mesh.helm.revision()
    await mesh.upgrade({})
    assert await mesh.helm.revision() == before + 1
    assert [name_of(job) for job in await mesh.kubectl.find("jobs") if "migrate" in name_of(job)] == jobs


async def test_load_balancing_of_an_installed_release_stays(mesh: Release) -> None:
    before = await mesh.helm.revision()

    with pytest.raises(ProgramError, match=r"grpc\.loadBalancing must stay client on this release"):
        await mesh.upgrade({"grpc": {"loadBalancing": "mesh"}}, "--dry-run=server")

    assert await mesh.helm.revision() == before


async def test_secrets_hold_only_what_their_service_needs(mesh: Release) -> None:
    secrets = await mesh.kubectl.find("secrets", "app.kubernetes.io/part-of=agent-mesh")

    keys = {name_of(secret): set(secret["data"]) for secret in secrets}

    assert keys[f"{RELEASE}-gateway"] == {"GATEWAY_SERVICE_KEY", "GATEWAY_REDIS_URL"}
    assert not [name for name in keys[f"{RELEASE}-agent"] if "OWNER" in name or "SIGNING" in name]
