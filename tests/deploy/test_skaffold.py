"""skaffold.yaml follows Skaffold's own schema and refers only to things that exist."""

import re
from functools import cache
from typing import Any, Final

import orjson
import pytest
from jsonschema import Draft7Validator
from mesh_common.grpc.edges import SERVICES

from deploy.go_yaml import load_all
from deploy.helm import CHART, render
from deploy.manifests import Object, Release, merged
from deploy.programs import ROOT, SCHEMAS

pytestmark = pytest.mark.deploy

SCHEMA: Final = SCHEMAS / "skaffold.json"
PROFILES: Final = ("dev", "ha")


@cache
def _configs() -> dict[str, Object]:
    documents = load_all((ROOT / "skaffold.yaml").read_text())
    return {document["metadata"]["name"]: document for document in documents}


def _mesh() -> Object:
    return _configs()["mesh"]


def _helm_release() -> Object:
    [release] = _mesh()["deploy"]["helm"]["releases"]
    return dict(release)


@pytest.mark.skipif(not SCHEMA.exists(), reason="scripts/deploy-tools.sh takes Skaffold's schema with Go alone")
@pytest.mark.parametrize("name", ["mesh-surroundings", "mesh"])
def test_skaffold_takes_the_file(name: str) -> None:
    schema = orjson.loads(SCHEMA.read_bytes())

    faults = [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(_configs()[name])]

    assert faults == []


def test_the_five_services_are_built_from_one_dockerfile() -> None:
    artifacts = {artifact["image"]: artifact for artifact in _mesh()["build"]["artifacts"]}

    assert set(artifacts) == {f"mesh-{service}" for service in SERVICES}
    for service in SERVICES:
        docker = artifacts[f"mesh-{service}"]["docker"]
        assert docker == {"dockerfile": "services/Dockerfile", "buildArgs": {"SERVICE": service}}


def test_every_path_exists() -> None:
    surroundings = _configs()["mesh-surroundings"]
    manifests = surroundings["manifests"]
    dockerfiles = [
        artifact["docker"]["dockerfile"] for each in _configs().values() for artifact in each["build"]["artifacts"]
    ]
    values = [*_helm_release()["valuesFiles"], *(_values_of(profile) for profile in PROFILES)]

    paths = [*manifests["rawYaml"], *manifests["kustomize"]["paths"], *dockerfiles, *values]

    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert ROOT / _helm_release()["chartPath"] == CHART


def test_the_release_runs_the_images_that_were_built() -> None:
    release = _rendered(())

    images = {
        workload.component: {container["image"] for container in workload.containers()}
        for workload in release.deployments()
    }

    assert images == {service: {f"repository/mesh-{service}:built"} for service in SERVICES}


@pytest.mark.parametrize(("profile", "replicas"), [("dev", {1}), ("ha", {3})])
def test_a_profile_decides_how_many_replicas_there_are(profile: str, replicas: set[int]) -> None:
    release = _rendered((_values_of(profile),))

    fixed = {workload.owner["spec"]["replicas"] for workload in release.deployments() if _is_fixed(workload.owner)}
    scaled = {scaler["spec"]["minReplicas"] for scaler in release.of("HorizontalPodAutoscaler")}

    assert fixed | scaled == replicas


def test_profiles_are_known_to_both_configurations() -> None:
    for config in _configs().values():
        assert tuple(profile["name"] for profile in config["profiles"]) == PROFILES


def test_the_forwarded_port_is_the_gateway_services() -> None:
    [forwarded] = _mesh()["portForward"]

    service = _rendered(()).find("Service", forwarded["resourceName"])

    assert service is not None
    assert forwarded["port"] in {port["port"] for port in service["spec"]["ports"]}
    assert forwarded["namespace"] == _helm_release()["namespace"]


def _values_of(profile: str) -> str:
    """The values file that the profile's only patch adds."""
    [found] = [each for each in _mesh()["profiles"] if each["name"] == profile]
    [patch] = found["patches"]
    assert (patch["op"], patch["path"]) == ("add", "/deploy/helm/releases/0/valuesFiles/-")
    return str(patch["value"])


def _rendered(more: tuple[str, ...]) -> Release:
    """The release that Helm would render with images built as `repository/<name>:built`."""
    values: dict[str, Any] = {}
    for path in (*_helm_release()["valuesFiles"], *more):
        values = merged(values, next(load_all((ROOT / path).read_text())))
    for key, template in _helm_release()["setValueTemplates"].items():
        values = merged(values, _nested(key.split("."), _filled(template)))
    return render(values)


def _filled(template: str) -> str:
    repository = re.sub(r"\{\{\.IMAGE_REPO_mesh_(\w+)\}\}", r"repository/mesh-\1", template)
    return re.sub(r"\{\{\.IMAGE_TAG_mesh_\w+\}\}", "built", repository)


def _nested(keys: list[str], value: str) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nested(keys[1:], value)}


def _is_fixed(deployment: Object) -> bool:
    return "replicas" in deployment["spec"]
