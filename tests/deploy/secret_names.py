"""The Secrets that a release may expect, and their keys."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from mesh_admin.kubernetes_secrets import Fields, Place, kubernetes_secrets
from mesh_admin.secrets import make_secrets
from mesh_common.grpc.edges import SERVICES
from mesh_common.jwt import new_private_key_pem

from deploy.manifests import Object, Release

# Keys that may be missing: a rotation adds and removes them.
OPTIONAL: Final = {"auth": ("AUTH_PREVIOUS_SIGNING_KEY", "AUTH_NEXT_SIGNING_KEY")}
# The operator always creates these; each key is optional.
PROVIDER_KEYS: Final = (
    "AGENT_OPENAI_API_KEY",
    "MEMORY_OPENAI_API_KEY",
    "MEMORY_EMBEDDING_API_KEY",
    "EVAL_OPENAI_API_KEY",
)
# As cert-manager writes a certificate.
TLS_KEYS: Final = ("tls.crt", "tls.key", "ca.crt")
# Used by PostgreSQL and Redis, which the chart does not contain.
NOT_OF_THE_CHART: Final = {"redis"}
_PREFIX: Final = "mesh"


@cache
def examples() -> Mapping[str, Fields]:
    """A complete set by component, as `mesh_admin secrets` creates it, with the optional keys."""
    place = Place(database="postgres:5432", redis="valkey:6379", prefix=_PREFIX)
    made = kubernetes_secrets(make_secrets(), place)
    found = {name.removeprefix(f"{_PREFIX}-"): dict(fields) for name, fields in made.items()}
    for component, keys in OPTIONAL.items():
        found[component] |= {key: new_private_key_pem() for key in keys}
    return found | {"provider": dict.fromkeys(PROVIDER_KEYS, "sk-example")}


def keys_by_secret(release: Release) -> Mapping[str, set[str]]:
    """The keys to which a pod of the release may refer, by the Secret's name. A Secret may serve several components."""
    known: dict[str, set[str]] = {}
    for component, fields in examples().items():
        if name := name_of_secret(release, component):
            known.setdefault(name, set()).update(fields)
    for service in SERVICES:
        name = release.values["secrets"]["tls"][service]["existingSecret"] or f"{release.fullname}-{service}-tls"
        known.setdefault(name, set()).update(TLS_KEYS)
    for name, key in _named_by_the_operator(release):
        known.setdefault(name, set()).add(key)
    return known


def name_of_secret(release: Release, component: str) -> str:
    """Empty if the values name none."""
    own = release.values["secrets"].get(_value_of(component), {}).get("existingSecret")
    prefix = release.values["secrets"]["prefix"] or (release.fullname if release.values["secrets"]["create"] else "")
    return own or (f"{prefix}-{component}" if prefix else "")


def made_by_the_job(release: Release) -> set[str]:
    """Names of the Secrets that the Job of `secrets.create` creates."""
    prefix = release.values["secrets"]["prefix"] or release.fullname
    return {f"{prefix}-{component}" for component in examples() if component != "provider"} - _skipped(release, prefix)


def _skipped(release: Release, prefix: str) -> set[str]:
    job = release.workload("secrets")
    arguments: list[str] = job.containers()[0]["args"] if job else []
    return {f"{prefix}-{argument.removeprefix('--skip=')}" for argument in arguments if argument.startswith("--skip=")}


def _named_by_the_operator(release: Release) -> Iterator[tuple[str, str]]:
    """An operator who writes valueFrom or a volume into the values knows that the Secret exists."""
    for service in SERVICES:
        values = release.service_values(service)
        for entry in values["extraEnv"]:
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                yield _rendered(reference["name"], release), reference["key"]
        for volume in values["extraVolumes"]:
            for item in volume.get("secret", {}).get("items", []):
                yield volume["secret"]["secretName"], item["key"]


def _rendered(text: str, release: Release) -> str:
    """Expands the only template that the value sets use in names."""
    return text.replace("{{ .Release.Name }}", release.name)


def _value_of(component: str) -> str:
    first, *rest = component.split("-")
    return first + "".join(word.capitalize() for word in rest)


def references_of(container: Object) -> Iterator[tuple[str, Object]]:
    """(variable, secretKeyRef) of a container."""
    for entry in container.get("env", []):
        if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
            yield entry["name"], reference
