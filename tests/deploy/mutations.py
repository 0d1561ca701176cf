"""One way to violate each check: by the check's name, the value set and the change that violates the check."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final

from deploy.draft import Draft

type Mutation = tuple[str, Callable[[Draft], object]]


def _set(thing: Any, *path: str | int, to: object) -> None:
    for step in path[:-1]:
        thing = thing[step]
    thing[path[-1]] = to


def _twice(draft: Draft) -> None:
    draft.objects.append(deepcopy(draft.find("Service", "-auth")))


def _without(draft: Draft, kind: str, name: str = "") -> None:
    draft.objects.remove(draft.find(kind, name))


def _hpa_beside_keda(draft: Draft) -> None:
    scaler = deepcopy(draft.find("HorizontalPodAutoscaler", "-auth"))
    scaler["metadata"]["name"] = "second"
    scaler["spec"]["scaleTargetRef"]["name"] = "mesh-agent"
    draft.objects.append(scaler)


def _without_variable(draft: Draft, service: str, name: str) -> None:
    draft.container(service)["env"].remove(draft.variable(service, name))


def _reverse_variables(draft: Draft) -> None:
    draft.container("agent")["env"].reverse()


def _add_secret(draft: Draft) -> None:
    draft.objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "passwords"}})


def _open_egress(draft: Draft) -> None:
    draft.find("NetworkPolicy", "-auth")["spec"]["egress"].append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]})


def _add_volume(draft: Draft, volume: Mapping[str, object]) -> None:
    draft.pod("Deployment", "-auth")["volumes"].append(dict(volume))


_RELEASE = "app.kubernetes.io/instance"
_HEALTH = ("readinessProbe", "grpc")
MUTATIONS: Final[Mapping[str, Mutation]] = {
    "names_are_unique": ("default", _twice),
    "names_are_valid": ("default", lambda d: _set(d.find("Service"), "metadata", "name", to="Mesh_gateway")),
    "objects_are_in_the_namespace": ("default", lambda d: _set(d.find("Service"), "metadata", "namespace", to="other")),
    "labels_are_standard": ("default", lambda d: d.find("Service")["metadata"]["labels"].pop("helm.sh/chart")),
    "labels_are_valid": ("default", lambda d: _set(d.find("Service"), "metadata", "labels", "team", to="a team")),
    "annotations_are_texts": ("ha", lambda d: _set(d.find("Service"), "metadata", "annotations", "cost", to=5)),
    "deployments_are_of_the_services": ("default", lambda d: _without(d, "Deployment", "-eval")),
    "deployments_select_their_pods": (
        "default",
        lambda d: _set(d.find("Deployment"), "spec", "selector", "matchLabels", "version", to="0.1.0"),
    ),
    "selectors_find_one_component": (
        "default",
        lambda d: d.find("Service", "-auth")["spec"]["selector"].pop("app.kubernetes.io/component"),
    ),
    "spreads_select_their_pods": (
        "default",
        lambda d: _set(
            d.pod("Deployment"), "topologySpreadConstraints", 0, "labelSelector", "matchLabels", _RELEASE, to="x"
        ),
    ),
    "pods_carry_the_selector_labels": (
        "default",
        lambda d: d.find("Job")["spec"]["template"]["metadata"]["labels"].pop(_RELEASE),
    ),
    "service_monitors_find_every_service": (
        "ha",
        lambda d: _set(d.find("ServiceMonitor"), "spec", "selector", "matchLabels", _RELEASE, to="other"),
    ),
    "container_ports_are_unique": ("tls", lambda d: _set(d.container("auth"), "ports", 0, "name", to="metrics")),
    "services_lead_to_container_ports": ("default", lambda d: _set(d.container("auth"), "ports", 0, "name", to="rpc")),
    "probes_lead_to_container_ports": ("default", lambda d: _set(d.container("auth"), *_HEALTH, "port", to=50053)),
    "services_are_probed": ("default", lambda d: _set(d.container("auth"), *_HEALTH, "service", to="ready")),
    "grpc_probes_have_a_server_of_their_own": (
        "default",
        lambda d: _set(d.container("auth"), *_HEALTH, "port", to=50051),
    ),
    "services_serve_the_settings_ports": (
        "default",
        lambda d: _set(d.container("gateway"), "ports", 0, "containerPort", to=8080),
    ),
    "routes_lead_to_service_ports": (
        "ha",
        lambda d: _set(d.find("HTTPRoute", "-gateway"), "spec", "rules", 0, "backendRefs", 0, "port", to=8000),
    ),
    "monitors_lead_to_service_ports": (
        "ha",
        lambda d: _set(d.find("ServiceMonitor"), "spec", "endpoints", 0, "port", to="prometheus"),
    ),
    "scrape_annotations_lead_to_container_ports": (
        "keda",
        lambda d: _set(d.container("auth"), "ports", 2, "containerPort", to=9090),
    ),
    "own_gateways_have_the_listeners_of_routes": (
        "ha",
        lambda d: _set(d.find("Gateway"), "spec", "listeners", 0, "name", to="web"),
    ),
    "bounds_are_in_order": ("default", lambda d: _set(d.find("HorizontalPodAutoscaler"), "spec", "minReplicas", to=99)),
    "scaled_things_exist": (
        "keda",
        lambda d: _set(d.find("ScaledObject"), "spec", "scaleTargetRef", "name", to="gateway"),
    ),
    "one_scaler_a_workload": ("keda", _hpa_beside_keda),
    "replicas_have_one_owner": ("default", lambda d: _set(d.find("Deployment"), "spec", "replicas", to=2)),
    "container_metrics_name_containers": ("default", lambda d: _set(d.container("auth"), "name", to="main")),
    "utilisation_has_a_request": ("default", lambda d: d.container("auth")["resources"]["requests"].pop("cpu")),
    "triggers_authenticate": ("keda", lambda d: _without(d, "TriggerAuthentication")),
    "budgets_let_nodes_be_drained": (
        "ha",
        lambda d: _set(d.find("PodDisruptionBudget"), "spec", "minAvailable", to="67%"),
    ),
    "services_of_several_replicas_have_a_budget": ("default", lambda d: _without(d, "PodDisruptionBudget", "-auth")),
    "rollouts_lose_no_replica": (
        "default",
        lambda d: _set(d.find("Deployment"), "spec", "strategy", "rollingUpdate", "maxUnavailable", to="50%"),
    ),
    "commands_are_known": ("default", lambda d: _set(d.container("auth"), "args", 2, to="server")),
    "variables_are_read": ("default", lambda d: _set(d.variable("auth", "AUTH_DRAIN_S"), "name", to="AUTH_DRAIN")),
    "required_variables_are_set": ("default", lambda d: _without_variable(d, "agent", "AGENT_MODELS")),
    "variables_are_set_once": (
        "default",
        lambda d: d.container("auth")["env"].append(dict(d.variable("auth", "AUTH_DRAIN_S"))),
    ),
    "values_are_texts": ("default", lambda d: _set(d.variable("auth", "AUTH_DRAIN_S"), "value", to=15)),
    "references_point_backwards": ("default", _reverse_variables),
    "services_take_their_settings": (
        "tls",
        lambda d: _set(d.variable("auth", "AUTH_DRAIN_S"), "value", to="15s"),
    ),
    "variables_refer_to_known_keys": (
        "default",
        lambda d: _set(
            d.variable("auth", "AUTH_SIGNING_KEY"), "valueFrom", "secretKeyRef", "key", to="AUTH_SIGNING_PEM"
        ),
    ),
    "only_documented_keys_are_optional": (
        "default",
        lambda d: _set(d.variable("auth", "AUTH_SIGNING_KEY"), "valueFrom", "secretKeyRef", "optional", to=True),
    ),
    "volumes_refer_to_known_keys": (
        "default",
        lambda d: _add_volume(d, {"name": "x", "secret": {"secretName": "mesh-auth", "items": [{"key": "other"}]}}),
    ),
    "scalers_refer_to_known_keys": (
        "keda",
        lambda d: _set(d.find("TriggerAuthentication"), "spec", "secretTargetRef", 0, "name", to="mesh-auth"),
    ),
    "no_secret_is_rendered": ("default", _add_secret),
    "mounts_have_volumes": ("default", lambda d: d.pod("Deployment", "-auth")["volumes"].pop()),
    "volumes_are_mounted": ("default", lambda d: _add_volume(d, {"name": "x", "emptyDir": {}})),
    "volume_names_are_unique": ("default", lambda d: _add_volume(d, {"name": "tmp", "emptyDir": {}})),
    "mount_paths_are_unique": (
        "default",
        lambda d: _set(d.container("auth"), "volumeMounts", 1, "mountPath", to="/tmp"),  # noqa: S108 - in the pod
    ),
    "tmp_can_be_written": ("default", lambda d: _set(d.container("auth"), "volumeMounts", 0, "readOnly", to=True)),
    "files_of_settings_are_mounted": (
        "default",
        lambda d: _set(d.container("auth"), "volumeMounts", 1, "mountPath", to="/etc/other"),
    ),
    "quantities_parse": ("default", lambda d: _set(d.container("auth"), "resources", "limits", "memory", to="1GB")),
    "requests_are_within_limits": (
        "default",
        lambda d: _set(d.container("auth"), "resources", "requests", "cpu", to=1.5),
    ),
    "containers_have_resources": ("default", lambda d: d.container("auth")["resources"]["limits"].pop("memory")),
    "images_are_those_of_the_services": (
        "default",
        lambda d: _set(d.container("auth"), "image", to="localhost/mesh-agent:0.1.0"),
    ),
    "every_service_has_its_image": (
        "default",
        lambda d: _set(d.container("auth"), "image", to="localhost/auth:0.1.0"),
    ),
    "images_are_fixed": ("default", lambda d: _set(d.container("auth"), "image", to="localhost:5000/mesh-auth")),
    "grace_covers_pre_stop_and_drain": (
        "default",
        lambda d: _set(d.pod("Deployment", "-agent"), "terminationGracePeriodSeconds", to=95),
    ),
    "pre_stop_outlives_connections": (
        "default",
        lambda d: _set(d.container("agent"), "lifecycle", "preStop", "sleep", "seconds", to=32),
    ),
    "services_wait_before_they_stop": ("default", lambda d: d.container("gateway").pop("lifecycle")),
    "pods_are_restricted": (
        "default",
        lambda d: d.pod("Job")["initContainers"][0]["securityContext"]["capabilities"].pop("drop"),
    ),
    "roots_are_read_only": ("default", lambda d: d.container("auth")["securityContext"].pop("readOnlyRootFilesystem")),
    "accounts_exist": ("default", lambda d: _without(d, "ServiceAccount", "-auth")),
    "only_the_secrets_job_has_a_token": (
        "default",
        lambda d: d.pod("Deployment", "-auth").pop("automountServiceAccountToken"),
    ),
    "rights_are_least": ("minimal", lambda d: d.find("Role")["rules"][0]["verbs"].append("list")),
    "roles_are_bound_to_their_account": ("minimal", lambda d: _set(d.find("RoleBinding"), "roleRef", "name", to="x")),
    "policies_are_the_edges": ("default", _open_egress),
    "policies_are_there_or_not": (
        "default",
        lambda d: d.objects.__setitem__(slice(None), [t for t in d.objects if t["kind"] != "NetworkPolicy"]),
    ),
    "objects_follow_their_schema": ("default", lambda d: _set(d.container("auth"), "livenessprobe", to={})),
}
