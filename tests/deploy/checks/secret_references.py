"""Every key that a pod refers to is created by something, and only keys documented as optional are optional."""

from collections.abc import Iterator
from typing import Final

from mesh_common.grpc.edges import SERVICES

from deploy.manifests import Object, Release, name_of
from deploy.secret_names import OPTIONAL, PROVIDER_KEYS, keys_by_secret, references_of

_MAY_BE_MISSING: Final = {*PROVIDER_KEYS, *(key for keys in OPTIONAL.values() for key in keys)}


def variables_refer_to_known_keys(release: Release) -> Iterator[str]:
    known = keys_by_secret(release)
    for workload in release.workloads:
        for container in workload.containers():
            for variable, reference in references_of(container):
                if reference["key"] not in known.get(reference["name"], set()):
                    yield f"{workload}: {variable} is from {reference['name']}/{reference['key']}, which nobody makes"


def only_documented_keys_are_optional(release: Release) -> Iterator[str]:
    """Does not apply to variables that the operator adds."""
    for workload in release.workloads:
        values = release.service_values(workload.component) if workload.component in SERVICES else {}
        own = {entry["name"] for entry in values.get("extraEnv", [])}
        for container in workload.containers():
            for variable, reference in references_of(container):
                if variable not in own and bool(reference.get("optional")) != (reference["key"] in _MAY_BE_MISSING):
                    yield f"{workload}: {variable} is optional: {bool(reference.get('optional'))}"


def volumes_refer_to_known_keys(release: Release) -> Iterator[str]:
    known = keys_by_secret(release)
    for workload in release.workloads:
        for volume in workload.spec.get("volumes", []):
            for name, key in secret_items(volume):
                if key not in known.get(name, set()):
                    yield f"{workload}, volume {volume['name']}: nobody makes {name}/{key}"


def scalers_refer_to_known_keys(release: Release) -> Iterator[str]:
    known = keys_by_secret(release)
    for authentication in release.of("TriggerAuthentication"):
        for target in authentication["spec"].get("secretTargetRef", []):
            if target["key"] not in known.get(target["name"], set()):
                yield f"TriggerAuthentication {name_of(authentication)}: nobody makes {target['name']}/{target['key']}"


def no_secret_is_rendered(release: Release) -> Iterator[str]:
    """Otherwise everyone who can read Helm's history could read the values of Secrets."""
    return (f"Secret {name_of(secret)} is in the manifests" for secret in release.of("Secret"))


def secret_items(volume: Object) -> Iterator[tuple[str, str]]:
    """(Secret, key) of each Secret key that a volume contains."""
    sources = [source["secret"] for source in volume.get("projected", {}).get("sources", []) if "secret" in source]
    for source in sources:
        yield from ((source["name"], item["key"]) for item in source.get("items", []))
    if secret := volume.get("secret"):
        yield from ((secret["secretName"], item["key"]) for item in secret.get("items", []))
