"""Every variable that is set is read, every required variable is set, and the service accepts its value."""

import re
from collections.abc import Iterator, Mapping
from typing import Final
from unittest.mock import patch

from mesh_common.process.setting_faults import fault_lines
from pydantic import ValidationError

from deploy.checks.volumes import key_at
from deploy.commands import SETTINGS, command_of, variables_of
from deploy.manifests import Object, Release, Workload, everything_in
from deploy.quantities import parse_quantity
from deploy.sample_files import sample_file
from deploy.secret_names import examples

_REFERENCE: Final = re.compile(r"\$\(([A-Z0-9_]+)\)")
# Kubernetes itself sets these in every pod.
_OF_KUBERNETES: Final = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
# Libraries of the services read these; no settings class does.
_OF_LIBRARIES: Final = {
    "OTEL_RESOURCE_ATTRIBUTES",  # opentelemetry-sdk, in Resource.create
}
_POD_ADDRESS: Final = "10.244.1.7"
# The keys that an operator's own Secret may contain for variables that `mesh_admin secrets` does not create.
_OPERATORS_OWN: Final = {
    "AGENT_MODELS": '[{"name": "m", "provider_model": "m", "context_tokens": 8192, "api_key": "sk-example"}]',
    "AGENT_HTTP_TOOLS": "[]",
}


def commands_are_known(release: Release) -> Iterator[str]:
    for workload, container in _containers(release):
        command = command_of(container)
        is_script = container.get("args", [])[:1] == ["-c"]
        if command not in SETTINGS and not is_script:
            yield f"{workload}, container {container['name']} runs {container.get('args')}"


def variables_are_read(release: Release) -> Iterator[str]:
    for workload, container in _containers(release):
        command = command_of(container)
        read = set(variables_of(SETTINGS[command])) if command and command in SETTINGS else set()
        used = {name for entry in container.get("env", []) for name in _REFERENCE.findall(str(entry.get("value", "")))}
        for name in sorted(_names(container) - read - used - _OF_LIBRARIES):
            yield f"{workload}, container {container['name']}: nothing reads {name}"


def required_variables_are_set(release: Release) -> Iterator[str]:
    for workload, container in _containers(release):
        command = command_of(container)
        needed = variables_of(SETTINGS[command]) if command and command in SETTINGS else {}
        given = {entry["name"] for entry in container.get("env", []) if not _may_be_missing(entry)} | set(
            _OF_KUBERNETES
        )
        for name in sorted(name for name, is_required in needed.items() if is_required and name not in given):
            yield f"{workload}, container {container['name']} lacks {name}"


def variables_are_set_once(release: Release) -> Iterator[str]:
    for workload, container in _containers(release):
        names = [entry["name"] for entry in container.get("env", [])]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{workload}, container {container['name']} sets {name} twice"


def values_are_texts(release: Release) -> Iterator[str]:
    """The API server rejects `value: 5` and `value: true`, and a template easily lacks the quotes."""
    for workload, container in _containers(release):
        for _, key, value in everything_in(container.get("env", [])):
            if key in {"name", "value"} and not isinstance(value, str):
                yield f"{workload}, container {container['name']}: {key} {value!r} is no text"


def references_point_backwards(release: Release) -> Iterator[str]:
    """Kubernetes expands `$(X)` only if X is defined before."""
    for workload, container in _containers(release):
        before: set[str] = set()
        for entry in container.get("env", []):
            for name in _REFERENCE.findall(str(entry.get("value", ""))):
                if name not in before:
                    yield f"{workload}: {entry['name']} refers to {name}, which is not set before it"
            before.add(entry["name"])


def services_take_their_settings(release: Release) -> Iterator[str]:
    """Loads the command's settings class with the environment of its container."""
    for workload, container in _containers(release):
        settings = SETTINGS.get(command_of(container) or ("", ""))
        if settings is None or command_of(container) == ("mesh_admin", "secrets"):
            continue
        try:
            with patch.dict("os.environ", environment_of(workload, container), clear=True):
                settings()
        except ValidationError as error:
            for line in fault_lines(error, settings.model_config.get("env_prefix", "")):
                yield f"{workload}, container {container['name']}: {line}"


def environment_of(workload: Workload, container: Object) -> Mapping[str, str]:
    """The container's environment, with invented secrets, and with files of the tests in place of mounted ones."""
    environment = dict(_OF_KUBERNETES)
    for entry in container.get("env", []):
        value = entry.get("value")
        if value is None:
            value = _from_elsewhere(entry, container)
        value = _REFERENCE.sub(lambda found: environment.get(found[1], found[0]), str(value))
        key = key_at(workload, container, value) if entry["name"].endswith("_FILE") else None
        environment[entry["name"]] = str(sample_file(key, workload.component)) if key else value
    return environment


def _from_elsewhere(entry: Object, container: Object) -> str:
    source = entry["valueFrom"]
    if "secretKeyRef" in source:
        return _secret_value(source["secretKeyRef"]["key"])
    if "resourceFieldRef" in source:
        group, name = source["resourceFieldRef"]["resource"].split(".")
        # Kubernetes rounds up to the divisor, which is 1 by default.
        return str(-(-parse_quantity(container["resources"][group][name]) // 1))
    return _POD_ADDRESS


def _secret_value(key: str) -> str:
    found = {key: value for fields in examples().values() for key, value in fields.items()}
    return found.get(key) or _OPERATORS_OWN.get(key, "")


def _may_be_missing(entry: Object) -> bool:
    return bool(entry.get("valueFrom", {}).get("secretKeyRef", {}).get("optional"))


def _names(container: Object) -> set[str]:
    return {entry["name"] for entry in container.get("env", [])}


def _containers(release: Release) -> Iterator[tuple[Workload, Object]]:
    for workload in release.workloads:
        for container in workload.containers():
            yield workload, container
