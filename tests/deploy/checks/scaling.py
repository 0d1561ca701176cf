"""Replicas: a single owner of their number, valid bounds, and disruption budgets that let nodes be drained."""

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

from deploy.checks.selectors import scaled_workload
from deploy.manifests import Object, Release, Workload, name_of
from deploy.netpol import selects


class Bounds(NamedTuple):
    fewest: int
    most: int


def bounds_of(scaler: Object) -> Bounds:
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        return Bounds(spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100))
    return Bounds(spec.get("minReplicas", 1), spec["maxReplicas"])


def bounds_are_in_order(release: Release) -> Iterator[str]:
    for scaler in _scalers(release):
        fewest, most = bounds_of(scaler)
        if not 1 <= fewest <= most:
            yield f"{scaler['kind']} {name_of(scaler)} has bounds {fewest} to {most}"


def scaled_things_exist(release: Release) -> Iterator[str]:
    for scaler in _scalers(release):
        if scaled_workload(release, scaler) is None:
            yield f"{scaler['kind']} {name_of(scaler)} scales what is not there"


def one_scaler_a_workload(release: Release) -> Iterator[str]:
    """KEDA creates a HorizontalPodAutoscaler itself, which would conflict with another one."""
    for workload in release.workloads:
        scalers = scalers_of(release, workload)
        if len(scalers) > 1:
            yield f"{workload} is scaled by {[scaler['kind'] for scaler in scalers]}"


def replicas_have_one_owner(release: Release) -> Iterator[str]:
    """With an autoscaler, `replicas` would reset the number at every upgrade."""
    for workload in release.deployments():
        is_scaled, says = bool(scalers_of(release, workload)), "replicas" in workload.owner["spec"]
        if is_scaled == says:
            yield f"{workload}: scaled by an autoscaler: {is_scaled}, says replicas: {says}"


def container_metrics_name_containers(release: Release) -> Iterator[str]:
    for scaler in release.of("HorizontalPodAutoscaler"):
        workload = scaled_workload(release, scaler)
        names = {container["name"] for container in workload.containers()} if workload else set()
        for metric in scaler["spec"]["metrics"]:
            container = metric.get("containerResource", {}).get("container")
            if container is not None and container not in names:
                yield f"HorizontalPodAutoscaler {name_of(scaler)} measures container {container}, which is not there"


def utilisation_has_a_request(release: Release) -> Iterator[str]:
    """The autoscaler cannot compute a percentage of a missing request."""
    for scaler in release.of("HorizontalPodAutoscaler"):
        workload = scaled_workload(release, scaler)
        for container in workload.containers() if workload else []:
            if "cpu" not in (container.get("resources") or {}).get("requests", {}):
                yield f"{workload}: container {container['name']} requests no CPU to scale by"


def triggers_authenticate(release: Release) -> Iterator[str]:
    for scaler in release.of("ScaledObject"):
        for trigger in scaler["spec"]["triggers"]:
            name = trigger.get("authenticationRef", {}).get("name")
            if name and not release.find("TriggerAuthentication", name):
                yield f"ScaledObject {name_of(scaler)} needs TriggerAuthentication {name}, which is not there"


def budgets_let_nodes_be_drained(release: Release) -> Iterator[str]:
    for budget in release.of("PodDisruptionBudget"):
        for workload in release.deployments():
            if not selects(budget["spec"]["selector"], workload.labels):
                continue
            replicas = fewest_replicas(release, workload)
            if evictable(budget["spec"], replicas) < 1:
                yield f"PodDisruptionBudget {name_of(budget)} lets none of {replicas} replicas go"


def services_of_several_replicas_have_a_budget(release: Release) -> Iterator[str]:
    for workload in release.deployments():
        is_wanted = (
            release.service_values(workload.component)["pdb"]["enabled"] and fewest_replicas(release, workload) > 1
        )
        budgets = [
            pdb for pdb in release.of("PodDisruptionBudget") if selects(pdb["spec"]["selector"], workload.labels)
        ]
        if is_wanted and len(budgets) != 1:
            yield f"{workload} has {len(budgets)} PodDisruptionBudgets"


def rollouts_lose_no_replica(release: Release) -> Iterator[str]:
    for workload in release.deployments():
        rolling = workload.owner["spec"]["strategy"].get("rollingUpdate", {})
        replicas = fewest_replicas(release, workload)
        if _share_of(rolling.get("maxUnavailable", "25%"), replicas, up=False) > 0:
            yield f"{workload} may miss replicas during a rollout"
        if _share_of(rolling.get("maxSurge", "25%"), replicas, up=True) < 1:
            yield f"{workload} cannot roll: no surge and none may be missing"


def evictable(budget: Object, replicas: int) -> int:
    """The number of pods that may be evicted. Rounds percentages up, as the disruption controller does."""
    if "minAvailable" in budget:
        return replicas - _share_of(budget["minAvailable"], replicas, up=True)
    return _share_of(budget["maxUnavailable"], replicas, up=True)


def fewest_replicas(release: Release, workload: Workload) -> int:
    scalers = scalers_of(release, workload)
    return bounds_of(scalers[0]).fewest if scalers else int(workload.owner["spec"].get("replicas", 1))


def scalers_of(release: Release, workload: Workload) -> list[Object]:
    return [scaler for scaler in _scalers(release) if scaled_workload(release, scaler) is workload]


def _scalers(release: Release) -> list[Object]:
    return release.of("HorizontalPodAutoscaler", "ScaledObject")


def _share_of(amount: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(amount, int):
        return amount
    share = replicas * int(amount.removesuffix("%")) / 100
    return ceil(share) if up else int(share)
