"""Ports and names match: Services and containers, probes, routes, monitors."""

from collections.abc import Iterator
from typing import Final

from mesh_common.grpc.health import LIVENESS, READINESS

from deploy.manifests import Object, Release, Workload, name_of
from deploy.netpol import selects

_PROBES: Final = {"startupProbe": LIVENESS, "readinessProbe": READINESS, "livenessProbe": LIVENESS}
# The gateway's routes for the same two (mesh_gateway.protocols.native.routes.meta); a test asks its OpenAPI for them.
HTTP_PROBES: Final = {READINESS: "/readyz", LIVENESS: "/healthz"}


def container_ports_are_unique(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        ports = [port for container in workload.containers() for port in container.get("ports", [])]
        for key in ("name", "containerPort"):
            values = [port.get(key) for port in ports]
            if len(set(values)) < len(values):
                yield f"{workload} has a {key} of ports twice: {values}"


def services_lead_to_container_ports(release: Release) -> Iterator[str]:
    for service in release.of("Service"):
        for workload in release.workloads:
            if workload.kind == "Deployment" and selects({"matchLabels": service["spec"]["selector"]}, workload.labels):
                yield from _unmet(service, workload)


def _unmet(service: Object, workload: Workload) -> Iterator[str]:
    names, numbers = _ports_of(workload)
    for port in service["spec"]["ports"]:
        target = port.get("targetPort", port["port"])
        if target not in names and target not in numbers:
            yield f"Service {name_of(service)}: no container of {workload} has the port {target}"
        # Headless: clients connect to the pod's address with the Service's port.
        number = names.get(target, target)
        if service["spec"].get("clusterIP") == "None" and number != port["port"]:
            yield f"Service {name_of(service)} is headless: port {port['port']} must be the container's {number}"


def probes_lead_to_container_ports(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        names, numbers = _ports_of(workload)
        for container in workload.containers():
            for kind in _PROBES:
                asked = [way["port"] for way in container.get(kind, {}).values() if isinstance(way, dict)]
                for port in asked:
                    if port not in names and port not in numbers:
                        yield f"{workload}: {kind} asks port {port}, which no container has"


def services_are_probed(release: Release) -> Iterator[str]:
    """Probes use the health names of mesh_common; a probe that restarts a pod never depends on other services."""
    for workload in release.deployments():
        container = service_container(workload)
        for kind, health in _PROBES.items():
            probe = container.get(kind, {})
            asked = probe.get("grpc", {}).get("service"), probe.get("httpGet", {}).get("path")
            wanted = (None, HTTP_PROBES[health]) if workload.component == "gateway" else (health, None)
            if asked != wanted:
                yield f"{workload}: {kind} asks {asked}, not {wanted}"


def grpc_probes_have_a_server_of_their_own(release: Release) -> Iterator[str]:
    for workload in release.deployments():
        container = service_container(workload)
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        prefix = workload.component.upper()
        wanted = env.get(f"{prefix}_GRPC_HEALTH_PORT")
        for kind in _PROBES:
            port = container.get(kind, {}).get("grpc", {}).get("port")
            if port is not None and str(port) != wanted:
                yield f"{workload}: {kind} asks port {port}; health is on {wanted}"


def services_serve_the_settings_ports(release: Release) -> Iterator[str]:
    """Services listen on the default ports of their settings, because nothing overrides them."""
    for workload in release.deployments():
        names, _ = _ports_of(workload)
        wanted = {"metrics": 9464} | ({"http": 8000} if workload.component == "gateway" else {"grpc": 50051})
        if {name: names.get(name) for name in wanted} != wanted:
            yield f"{workload} has ports {names}, not {wanted}"


def routes_lead_to_service_ports(release: Release) -> Iterator[str]:
    for route in release.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", []):
                yield from _no_such_port(release, route, backend["name"], backend["port"])
    for ingress in release.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                port = service["port"].get("name", service["port"].get("number"))
                yield from _no_such_port(release, ingress, service["name"], port)


def _no_such_port(release: Release, route: Object, name: str, wanted: str | int) -> Iterator[str]:
    service = release.find("Service", name)
    ports = service["spec"]["ports"] if service else []
    if not any(wanted in (port["port"], port["name"]) for port in ports):
        yield f"{route['kind']} {name_of(route)} leads to port {wanted} of Service {name}, which is not there"


def monitors_lead_to_service_ports(release: Release) -> Iterator[str]:
    for monitor in release.of("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            for service in release.of("Service"):
                if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                    yield f"ServiceMonitor {name_of(monitor)} wants a port that Service {name_of(service)} has not"


def scrape_annotations_lead_to_container_ports(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        port = workload.annotations.get("prometheus.io/port")
        names, _ = _ports_of(workload)
        if port is not None and port != str(names.get("metrics")):
            yield f"{workload} is to be scraped at {port}, where no metrics are"


def own_gateways_have_the_listeners_of_routes(release: Release) -> Iterator[str]:
    for route in release.of("HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            gateway = release.find("Gateway", parent["name"])
            if gateway and parent.get("namespace", release.namespace) == release.namespace:
                listeners = {listener["name"] for listener in gateway["spec"]["listeners"]}
                if parent.get("sectionName") not in {None, *listeners}:
                    yield f"HTTPRoute {name_of(route)}: its Gateway has no listener {parent['sectionName']}"


def service_container(workload: Workload) -> Object:
    """The container that serves; there may also be sidecars."""
    return next(container for container in workload.containers() if container["name"] == workload.component)


def _ports_of(workload: Workload) -> tuple[dict[str, int], set[int]]:
    ports = [port for container in workload.containers() for port in container.get("ports", [])]
    return {port["name"]: port["containerPort"] for port in ports}, {port["containerPort"] for port in ports}
