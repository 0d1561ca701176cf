"""A pod has enough time to stop: clients learn of it, then work ends, and only then is it killed."""

from collections.abc import Iterator
from typing import Final

from deploy.checks.ports import service_container
from deploy.manifests import Release, Workload

# The time to close pools and send the last spans after the drain.
_CLOSING_S: Final = 5
# gRPC varies the age of connections by a tenth in both directions.
_AGE_SPREAD: Final = 1.1


def grace_covers_pre_stop_and_drain(release: Release) -> Iterator[str]:
    for workload in release.deployments():
        grace = workload.spec.get("terminationGracePeriodSeconds", 30)
        needed = _pre_stop_s(workload) + float(_setting(workload, "DRAIN_S") or 60) + _CLOSING_S
        if grace < needed:
            yield f"{workload} is killed after {grace} s and needs {needed:g}"


def pre_stop_outlives_connections(release: Release) -> Iterator[str]:
    """Clients learn of new addresses only when a connection closes; connections to a stopped pod are refused."""
    for workload in release.deployments():
        age = _setting(workload, "GRPC_MAX_CONNECTION_AGE_S")
        if workload.component != "gateway" and _pre_stop_s(workload) <= float(age or 300) * _AGE_SPREAD:
            yield f"{workload} stops after {_pre_stop_s(workload)} s, before connections of {age} s have closed"


def services_wait_before_they_stop(release: Release) -> Iterator[str]:
    return (f"{workload} stops at once" for workload in release.deployments() if _pre_stop_s(workload) <= 0)


def _pre_stop_s(workload: Workload) -> int:
    hook = service_container(workload).get("lifecycle", {}).get("preStop", {})
    return int(hook.get("sleep", {}).get("seconds", 0))


def _setting(workload: Workload, name: str) -> str | None:
    variable = f"{workload.component.upper()}_{name}"
    values = [entry.get("value") for entry in service_container(workload)["env"] if entry["name"] == variable]
    return values[-1] if values else None
