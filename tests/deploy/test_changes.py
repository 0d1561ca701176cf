"""What may change from one release to the next, and what must not: immutable fields, and when migrations run again."""

import shutil
from pathlib import Path

import pytest

from deploy.helm import CHART, TRIAL, render
from deploy.manifests import Object, Release, Values, merged, name_of

# The second element says whether the pods of the Job change, so that a new Job must run.
CHANGES: dict[str, tuple[Values, bool]] = {
    "image tag": ({"image": {"tag": "2.0.0"}}, True),
    "image of auth alone": ({"services": {"auth": {"image": {"tag": "2.0.0"}}}}, True),
    "image of the gateway alone": ({"services": {"gateway": {"image": {"tag": "2.0.0"}}}}, False),
    "registry": ({"image": {"registry": "registry.example.com"}}, True),
    "secrets revision": ({"secrets": {"revision": "2"}}, True),
    "labels of everything": ({"commonLabels": {"team": "platform"}}, True),
    "annotations of everything": ({"commonAnnotations": {"owner": "platform"}}, True),
    "resources of the migrations": ({"migrations": {"resources": {"limits": {"memory": "1Gi"}}}}, True),
    "without bootstrap": ({"migrations": {"bootstrap": {"enabled": False}}}, True),
    "patience of the Job": ({"migrations": {"backoffLimit": 3}}, False),
    "replicas": ({"serviceDefaults": {"autoscaling": {"minReplicas": 3}}}, False),
    "a setting": ({"services": {"agent": {"env": {"AGENT_MAX_RUNS": 50}}}}, False),
    "labels of a service's pods": ({"services": {"agent": {"podLabels": {"team": "agents"}}}}, False),
    "TLS": ({"grpc": {"tls": {"enabled": True}}}, False),
    "a service mesh": ({"grpc": {"loadBalancing": "mesh"}}, False),
    "no policies": ({"networkPolicy": {"enabled": False}}, False),
    "a route": ({"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}, False),
}


@pytest.fixture(scope="module")
def before() -> Release:
    return render(TRIAL)


@pytest.mark.parametrize("change", CHANGES)
def test_job_has_a_new_name_just_when_its_pods_change(before: Release, change: str) -> None:
    """No change of values may change a selector either, because the upgrade would fail."""
    changes, is_new = CHANGES[change]

    after = render(merged(TRIAL, changes))

    assert (_pods_of_job(after) != _pods_of_job(before)) == is_new
    assert (_name_of_job(after) != _name_of_job(before)) == is_new
    assert _selectors(after) == _selectors(before)


def test_a_new_chart_with_the_same_pods_runs_no_migrations(before: Release, tmp_path: Path) -> None:
    chart = tmp_path / "mesh"
    shutil.copytree(CHART, chart)
    about = chart / "Chart.yaml"
    about.write_text("".join(_with_version(line) for line in about.read_text().splitlines(keepends=True)))

    after = render(TRIAL, chart=chart)

    assert "9.9.9" in str(after.find("Deployment", "mesh-auth"))
    assert _name_of_job(after) == _name_of_job(before)
    assert _selectors(after) == _selectors(before)


def _with_version(line: str) -> str:
    return "version: 9.9.9\n" if line.startswith("version:") else line


def _pods_of_job(release: Release) -> object:
    return _job(release)["spec"]["template"]


def _name_of_job(release: Release) -> str:
    return name_of(_job(release))


def _job(release: Release) -> Object:
    [job] = [job for job in release.of("Job") if "-migrate-" in name_of(job)]
    return job


def _selectors(release: Release) -> dict[str, object]:
    return {name_of(thing): thing["spec"]["selector"] for thing in release.of("Deployment")}
