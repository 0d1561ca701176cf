"""Quantities are valid, and requests do not exceed limits."""

from collections.abc import Iterator

from deploy.manifests import Object, Release
from deploy.quantities import parse_quantity


def quantities_parse(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        for container in workload.containers():
            for kind, amounts in (container.get("resources") or {}).items():
                for name, amount in amounts.items():
                    if not _is_quantity(amount):
                        yield f"{workload}, container {container['name']}: {kind} of {name} cannot be {amount!r}"
        for volume in workload.spec.get("volumes", []):
            size = (volume.get("emptyDir") or {}).get("sizeLimit", "0")
            if not _is_quantity(size):
                yield f"{workload}, volume {volume['name']}: its size cannot be {size!r}"


def requests_are_within_limits(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        for container in workload.containers():
            for name in _beyond_limit(container.get("resources") or {}):
                yield f"{workload}, container {container['name']} requests more {name} than its limit"


def containers_have_resources(release: Release) -> Iterator[str]:
    """Memory has a limit, and CPU and memory have requests, without which the scheduler cannot plan."""
    for workload in release.workloads:
        for container in workload.containers():
            resources = container.get("resources") or {}
            if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get(
                "limits", {}
            ):
                yield f"{workload}, container {container['name']} has resources {resources}"


def _beyond_limit(resources: Object) -> list[str]:
    limits = resources.get("limits", {})
    return [
        name
        for name, amount in resources.get("requests", {}).items()
        if name in limits
        and _is_quantity(amount)
        and _is_quantity(limits[name])
        and parse_quantity(amount) > parse_quantity(limits[name])
    ]


def _is_quantity(written: object) -> bool:
    try:
        parse_quantity(written)
    except ValueError:
        return False
    return True
