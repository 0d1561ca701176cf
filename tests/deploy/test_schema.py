"""values.schema.json contains every setting of the services, and no other."""

import json
from typing import Any

import pytest
from mesh_common.grpc.edges import SERVICES

from deploy.commands import SERVICE_SETTINGS, variables_of
from deploy.helm import CHART, release_of

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
# Settings of optional parts of the chart, and ports on which Services and probes depend.
_OF_THE_CHART = {
    "GRPC_TLS_CERT_FILE",
    "GRPC_TLS_KEY_FILE",
    "GRPC_TLS_CA_FILE",
    "GRPC_HEALTH_PORT",
    # Of the value `assistants`.
    "ASSISTANTS_DIR",
}
_FIXED = {"METRICS_PORT", "HTTP_PORT", "GRPC_PORT"}


@pytest.mark.parametrize("service", SERVICES)
def test_schema_takes_the_settings_that_the_chart_does_not_make(service: str) -> None:
    settings = set(variables_of(SERVICE_SETTINGS[service])) - {"OTEL_EXPORTER_OTLP_ENDPOINT"}
    others = {f"{service.upper()}_{name}" for name in _OF_THE_CHART | _FIXED}

    assert _settings_in_schema(service) == settings - _made_by_the_chart(service) - others


def _settings_in_schema(service: str) -> set[str]:
    parts = SCHEMA["properties"]["services"]["properties"][service]["allOf"]
    [env] = [part["properties"]["env"] for part in parts if "env" in part.get("properties", {})]
    assert env["additionalProperties"] is False
    return set(env["properties"])


def _made_by_the_chart(service: str) -> set[str]:
    workload = release_of("default").workload(service)
    assert workload is not None
    return {entry["name"] for entry in workload.containers()[0]["env"]}
