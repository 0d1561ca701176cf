"""Pod Security "restricted", field by field, and a read-only root file system.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator
from typing import Final

from deploy.manifests import Object, Release, Workload

_VOLUMES: Final = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SECCOMP: Final = {"RuntimeDefault", "Localhost"}


def pods_are_restricted(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        yield from (f"{workload}: {fault}" for fault in _of_pod(workload))
        for container in workload.containers():
            name = container["name"]
            yield from (f"{workload}, container {name}: {fault}" for fault in _of_container(container, workload))


def roots_are_read_only(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        for container in workload.containers():
            if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{workload}, container {container['name']}: its root can be written"


def _of_pod(workload: Workload) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if workload.spec.get(field):
            yield f"{field} is set"
    for volume in workload.spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= _VOLUMES:
            yield f"volume {volume['name']} is a {sorted(kinds - _VOLUMES)}"
    context = workload.spec.get("securityContext", {})
    if context.get("sysctls"):
        yield "sysctls are set"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "it is a host process"


def _of_container(container: Object, workload: Workload) -> Iterator[str]:
    own = container.get("securityContext", {})
    # For fields that a container does not set, those of its pod apply.
    both = {**workload.spec.get("securityContext", {}), **own}
    if own.get("privileged"):
        yield "it is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "privileges may be escalated"
    if both.get("runAsNonRoot") is not True:
        yield "it may run as root"
    if both.get("runAsUser", 1) == 0:
        yield "it runs as root"
    if both.get("seccompProfile", {}).get("type") not in _SECCOMP:
        yield "it has no seccomp profile"
    if own.get("procMount", "Default") != "Default":
        yield "its /proc is unmasked"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "it takes a port of the host"
    yield from _of_capabilities(own.get("capabilities", {}))


def _of_capabilities(capabilities: Object) -> Iterator[str]:
    if "ALL" not in capabilities.get("drop", []):
        yield "it keeps capabilities"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield f"it adds capabilities {capabilities['add']}"
