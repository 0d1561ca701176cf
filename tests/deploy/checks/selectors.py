"""Every selector matches the intended pods, and only them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mesh_common.grpc.edges import SERVICES

from deploy.manifests import COMPONENT, SELECTOR_LABELS, Object, Release, Workload, labels_of, name_of
from deploy.netpol import selects

# Objects that select pods of one component, with the path to their selector.
_SELECTORS: Final[Mapping[str, Callable[[Object], Object]]] = {
    "Service": lambda thing: {"matchLabels": thing["spec"]["selector"]},
    "PodDisruptionBudget": lambda thing: thing["spec"]["selector"],
    "NetworkPolicy": lambda thing: thing["spec"]["podSelector"],
}
_WHOLE_RELEASE: Final = "default-deny"


def deployments_are_of_the_services(release: Release) -> Iterator[str]:
    found = sorted(workload.component for workload in release.deployments())
    if found != sorted(SERVICES):
        yield f"there are Deployments of {found}"


def deployments_select_their_pods(release: Release) -> Iterator[str]:
    for workload in release.deployments():
        selector = workload.owner["spec"]["selector"]
        if not selects(selector, workload.labels):
            yield f"{workload} does not select its pods"
        # A selector is immutable: additional labels, or values that change, would make `helm upgrade` fail.
        if set(selector) != {"matchLabels"} or set(selector["matchLabels"]) != set(SELECTOR_LABELS):
            yield f"{workload} selects by {selector}"


def selectors_find_one_component(release: Release) -> Iterator[str]:
    """The component is the one in the labels of the selecting object."""
    for kind, selector_of in _SELECTORS.items():
        for thing in release.of(kind):
            component = labels_of(thing).get(COMPONENT)
            found = {
                workload.component for workload in release.workloads if selects(selector_of(thing), workload.labels)
            }
            wanted = (
                {workload.component for workload in release.workloads} if component == _WHOLE_RELEASE else {component}
            )
            if found != wanted:
                yield f"{kind} {name_of(thing)} selects pods of {sorted(found)}, not of {component}"


def spreads_select_their_pods(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        for constraint in workload.spec.get("topologySpreadConstraints", []):
            if not selects(constraint["labelSelector"], workload.labels):
                yield f"{workload} spreads other pods than its own"


def pods_carry_the_selector_labels(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        missing = set(SELECTOR_LABELS) - set(workload.labels)
        if missing:
            yield f"{workload}: its pods lack {sorted(missing)}"


def service_monitors_find_every_service(release: Release) -> Iterator[str]:
    for monitor in release.of("ServiceMonitor"):
        for service in release.of("Service"):
            if not selects(monitor["spec"]["selector"], labels_of(service)):
                yield f"ServiceMonitor {name_of(monitor)} does not find Service {name_of(service)}"


def scaled_workload(release: Release, scaler: Object) -> Workload | None:
    """The workload that an autoscaler scales."""
    target: Mapping[str, str] = scaler["spec"]["scaleTargetRef"]
    return next(
        (
            workload
            for workload in release.workloads
            if workload.kind == target.get("kind", "Deployment") and workload.name == target["name"]
        ),
        None,
    )
