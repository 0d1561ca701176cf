"""The Compose files, as Compose reads them: the privileges, secrets and networks of each container."""

import ipaddress
import json
import re
from typing import Any, Final

import yaml
from mesh_admin.bootstrap_db import SCHEMAS
from mesh_common.grpc.edges import SERVICES

from deploy.composed import FOLDER, JOBS, Service

# An exact release, not a release line: at least 1.2.3 after the colon.
_PRECISE_TAG: Final = re.compile(r":v?\d+\.\d+\.\d+[\w.-]*$")
_SECRET: Final = re.compile(r"PASSWORD|_KEY$|DATABASE_URL|REDIS_URL|TOKEN$|AUTHORIZATION")


def test_containers_have_no_rights_that_they_do_not_need(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.keys() & {"privileged", "pid", "network_mode", "ipc", "userns_mode", "devices"}, name
    assert [
        name for name, service in services.items() if not service.get("user", "0").partition(":")[0].strip("0")
    ] == ["cadvisor"]
    assert {name: service["cap_add"] for name, service in services.items() if "cap_add" in service} == {
        "cadvisor": ["DAC_READ_SEARCH"]
    }


def test_containers_are_bounded(services: dict[str, Service]) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert 0 < float(limits["cpus"]) <= 2, name
        assert 2**25 <= int(limits["memory"]) <= 2**30, name
        assert 0 < limits["pids"] <= 512, name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["restart"] == ("no" if name in JOBS else "unless-stopped"), name


def test_ports_are_open_on_loopback_but_for_the_edge(services: dict[str, Service]) -> None:
    ports = {
        (name, port["target"]): (port["host_ip"], port["published"])
        for name, service in services.items()
        for port in service.get("ports", [])
    }

    assert ports == {
        ("gateway", 8000): ("127.0.0.1", "8000"),
        ("prometheus", 9090): ("127.0.0.1", "9090"),
        ("grafana", 3000): ("127.0.0.1", "3000"),
        ("cadvisor", 8080): ("127.0.0.1", "8080"),
        ("nginx", 8443): ("0.0.0.0", "443"),  # noqa: S104 - the edge is for all
        ("nginx", 8080): ("0.0.0.0", "80"),  # noqa: S104 - the same
    }


def test_networks_join_what_calls_each_other(composed: dict[str, Any], services: dict[str, Service]) -> None:
    members: dict[str, set[str]] = {
        network: {name for name, service in services.items() if network in service["networks"]}
        for network in composed["networks"]
    }

    assert members == {
        "edge": {"nginx", "gateway"},
        "internal": set(SERVICES),
        "data": {"postgres", *SCHEMAS, *JOBS},
        "cache": {"redis", "gateway"},
        "telemetry": {*SERVICES, "otel-collector", "prometheus", "grafana", "cadvisor"},
        "egress": {"agent", "memory", "eval"},
        "console": {"prometheus", "grafana", "cadvisor"},
    }
    closed = {name for name, network in composed["networks"].items() if network.get("internal")}
    assert closed == {"internal", "data", "cache", "telemetry"}


def test_no_secret_is_written_in_the_files() -> None:
    literal = [
        (path.name, name, value)
        for path in sorted(FOLDER.glob("*.yml"))
        for service in (yaml.safe_load(path.read_text()).get("services") or {}).values()
        for name, value in service.get("environment", {}).items()
        if _SECRET.search(name) and not re.fullmatch(r"\${[A-Z_]+:(\?[^}]+|-)}", str(value))
    ]

    assert literal == []


def test_a_container_is_given_the_secrets_of_its_own_work(services: dict[str, Service]) -> None:
    given = {
        name: {
            variable for variable, value in service.get("environment", {}).items() if value and _SECRET.search(variable)
        }
        for name, service in services.items()
    }

    assert {name: variables for name, variables in given.items() if variables} == {
        "gateway": {"GATEWAY_SERVICE_KEY", "GATEWAY_REDIS_URL"},
        "auth": {"AUTH_SERVICE_KEY", "AUTH_SIGNING_KEY", "AUTH_DATABASE_URL"},
        **{
            name: {f"{name.upper()}_SERVICE_KEY", f"{name.upper()}_DATABASE_URL"}
            for name in ("agent", "memory", "eval")
        },
        **{f"migrate-{schema}": {f"{schema.upper()}_OWNER_DATABASE_URL"} for schema in SCHEMAS},
        "bootstrap-db": {"BOOTSTRAP_DATABASE_PASSWORDS", "BOOTSTRAP_ADMIN_DATABASE_URL"},
        "postgres": {"POSTGRES_PASSWORD"},
        "redis": {"REDIS_PASSWORD"},
        "grafana": {"GF_SECURITY_ADMIN_PASSWORD"},
    }


def test_only_nginx_is_believed_about_client_addresses(composed: dict[str, Any], services: dict[str, Service]) -> None:
    trusted = json.loads(services["gateway"]["environment"]["GATEWAY_TRUSTED_PROXIES"])
    address = services["nginx"]["networks"]["edge"]["ipv4_address"]
    subnet = ipaddress.ip_network(composed["networks"]["edge"]["ipam"]["config"][0]["subnet"])

    assert trusted == [f"{address}/32"]
    assert ipaddress.ip_address(address) in subnet
    # Connections through a published port may come from the bridge, the first address.
    assert ipaddress.ip_address(address) != next(subnet.hosts())


def test_grafana_is_open_to_look_at_on_a_developers_machine_alone(
    environment: str, services: dict[str, Service]
) -> None:
    variables = services["grafana"]["environment"]

    assert variables["GF_AUTH_ANONYMOUS_ENABLED"] == ("true" if environment == "development" else "false")
    assert variables.get("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer") == "Viewer"
    assert variables["GF_SECURITY_ADMIN_PASSWORD"] == "of-this-mesh"
    assert variables["GF_USERS_ALLOW_SIGN_UP"] == "false"


def test_images_of_others_are_of_one_release(services: dict[str, Service]) -> None:
    others = {name: service["image"] for name, service in services.items() if "/mesh-" not in service["image"]}

    assert len(others) == 7
    assert {name: image for name, image in others.items() if not _PRECISE_TAG.search(image)} == {}
