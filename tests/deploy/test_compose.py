"""The Compose files, as Compose reads them: what starts can work."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from mesh_admin.bootstrap_db import SCHEMAS
from mesh_common.grpc.edges import SERVICES

from deploy.commands import SERVICE_SETTINGS, SETTINGS, command_of, variables_of
from deploy.composed import (
    FOLDER,
    JOBS,
    Service,
    configuration,
    copy_of_full_folder,
    full_folder,
    run_script,
)
from deploy.mesh_edges import calls
from deploy.programs import SCHEMAS as JSON_SCHEMAS
from deploy.programs import MissingProgram, program


@pytest.mark.parametrize("name", ["docker-compose.yml", "development.yml", "traces.yml"])
def test_files_for_compose_fit_its_schema(name: str) -> None:
    schema = JSON_SCHEMAS / "compose-spec.json"
    if not schema.exists():
        pytest.skip(f"{schema.name} is not there: run scripts/deploy-tools.sh with Go on PATH")
    document = yaml.safe_load((FOLDER / name).read_text())

    jsonschema.validate(document, json.loads(schema.read_text()))


def test_without_the_script_compose_says_how_to_start() -> None:
    try:
        compose = program("docker-compose")
    except MissingProgram as error:
        pytest.skip(str(error))

    ran = run_script("config", "production", COMPOSE=f"env -u MESH_ENV {compose}", SECRETS=str(full_folder()))

    assert ran.returncode != 0
    assert "start it with make docker-run-env ENV=development or ENV=production" in ran.stderr


def test_every_container_that_stays_tells_its_health(services: dict[str, Service]) -> None:
    silent = {name for name, service in services.items() if "healthcheck" not in service}

    # The collector's image contains no program for a health check.
    assert silent == {"otel-collector", *JOBS}


def test_the_edge_is_there_when_asked_for() -> None:
    assert "nginx" not in configuration("production")["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_start_with_its_environment(
    services: dict[str, Service], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = services[name]["environment"]
    settings = SERVICE_SETTINGS[name]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv(f"{name.upper()}_SERVICE_JWKS_FILE", str(full_folder() / "service-jwks.json"))

    loaded = settings()

    assert {variable for variable in variables if variable not in variables_of(settings)} == set()
    # Every service that others call listens on more than loopback.
    assert {value for variable, value in variables.items() if variable.endswith("_HOST")} == {"0.0.0.0"}  # noqa: S104
    assert _seconds(services[name]["stop_grace_period"]) > loaded.drain_s


def test_every_service_knows_the_keys_of_all(services: dict[str, Service]) -> None:
    for name in SERVICES:
        mounted = {volume["target"]: volume for volume in services[name]["volumes"]}
        keys = mounted[services[name]["environment"][f"{name.upper()}_SERVICE_JWKS_FILE"]]
        assert keys["source"] == str(full_folder() / "service-jwks.json")
        assert keys["read_only"] is True


def test_jobs_are_given_what_they_must_know_and_no_more(services: dict[str, Service]) -> None:
    for name in JOBS:
        command = command_of({"args": services[name]["command"]})
        assert command is not None
        read = variables_of(SETTINGS[command])
        given = set(services[name]["environment"])
        assert {variable for variable, is_required in read.items() if is_required} <= given <= read.keys(), name


def test_a_service_is_called_where_it_listens(services: dict[str, Service]) -> None:
    called = {
        (name, *re.findall(r"^dns:///(\w+):(\d+)$", value)[0])
        for name in SERVICES
        for variable, value in services[name]["environment"].items()
        if variable.endswith("_TARGET")
    }

    # An agent calls another one by the address that it advertises.
    assert called == {(caller, callee, "50051") for caller, callee in calls() if caller != callee}


def test_urls_lead_to_containers_that_can_be_reached(services: dict[str, Service]) -> None:
    for name, service in services.items():
        for url in _urls(service):
            host = urlsplit(url).hostname
            if host in services:
                assert service["networks"].keys() & services[host]["networks"].keys(), (name, url)
            else:
                assert (host or "").endswith((".com", ".local")) or host == "localhost", (name, url)


def test_nothing_starts_before_what_it_cannot_do_without(services: dict[str, Service]) -> None:
    for schema in SCHEMAS:
        assert services[schema]["depends_on"][f"migrate-{schema}"]["condition"] == "service_completed_successfully"
        after = services[f"migrate-{schema}"]["depends_on"]
        assert after["bootstrap-db"]["condition"] == "service_completed_successfully"
    assert services["bootstrap-db"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_connections_of_all_pools_fit_the_database(services: dict[str, Service]) -> None:
    settings = SERVICE_SETTINGS["auth"].model_fields
    each = settings["database_pool_size"].default + settings["database_max_overflow"].default
    limit = next(part for part in services["postgres"]["command"] if part.startswith("max_connections="))

    assert len(SCHEMAS) * each + 10 <= int(limit.partition("=")[2])


def test_files_that_are_mounted_are_there(services: dict[str, Service]) -> None:
    bound = {
        volume["source"]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    }

    assert len(bound) > 8
    assert [source for source in bound if not Path(source).exists()] == []


def test_traces_go_to_a_backend_when_one_is_named() -> None:
    services = configuration("production", MESH_TRACES_ENDPOINT="https://traces.example.com")["services"]

    collector = services["otel-collector"]
    assert collector["environment"]["MESH_TRACES_ENDPOINT"] == "https://traces.example.com"
    assert collector["command"][-1] == "--config=/etc/otelcol/traces.yml"
    assert {volume["target"] for volume in collector["volumes"]} == {
        "/etc/otelcol/config.yml",
        "/etc/otelcol/traces.yml",
    }
    assert "egress" in collector["networks"]


def test_the_last_word_on_a_setting_is_with_the_folder_of_secrets(tmp_path: Path) -> None:
    """The provider's key is set in that folder."""
    folder = copy_of_full_folder(tmp_path)
    with (folder / "agent.env").open("a") as variables:
        variables.write("AGENT_EVAL_SAMPLE_RATIO=0.5\n")

    services = configuration("production", SECRETS=str(folder))["services"]

    assert services["agent"]["environment"]["AGENT_EVAL_SAMPLE_RATIO"] == "0.5"


def _urls(service: Service) -> Iterator[str]:
    for value in service.get("environment", {}).values():
        yield from re.findall(r"\b(?:https?|postgresql|redis)://[^\s\"]+", value or "")


def _seconds(duration: str) -> int:
    """The seconds of a Compose duration such as `1m30s`."""
    return sum(int(number) * {"m": 60, "s": 1}[unit] for number, unit in re.findall(r"(\d+)([ms])", duration))
