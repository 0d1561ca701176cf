"""The template of settings contains every setting of the gateway and nothing else. Unsafe proxies are refused."""

from pathlib import Path
from typing import Any

import pytest
from mesh_admin.secrets import make_secrets
from mesh_gateway.settings import GatewaySettings
from pydantic import ValidationError

EXAMPLE = Path(__file__).parents[3] / "services" / "gateway" / ".env.example"


@pytest.fixture
def mesh_settings(tmp_path: Path) -> dict[str, Any]:
    """What a gateway needs at least."""
    secrets = make_secrets()
    jwks_file = tmp_path / "service-jwks.json"
    jwks_file.write_text(secrets.service_jwks())
    return {
        "service_key": secrets.service_keys["gateway"],
        "service_jwks_file": jwks_file,
        "redis_url": "redis://127.0.0.1:6379/0",
    }


def test_example_names_every_setting_once() -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    named = [line.partition("=")[0] for line in lines]
    known = {f"GATEWAY_{name.upper()}" for name in GatewaySettings.model_fields} - {"GATEWAY_OTLP_ENDPOINT"}

    assert sorted(named) == sorted(known | {"OTEL_EXPORTER_OTLP_ENDPOINT"})


def test_secrets_have_no_value_in_the_example() -> None:
    assert "GATEWAY_SERVICE_KEY=\n" in EXAMPLE.read_text()
    assert "GATEWAY_REDIS_URL=\n" in EXAMPLE.read_text()


@pytest.mark.parametrize(
    "networks", [["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1"], ["10.0.0.1/32", "8.0.0.0/7"], ["2000::/3"], ["10.0.0.0/7"]]
)
def test_network_that_clients_are_in_cannot_be_trusted(mesh_settings: dict[str, Any], networks: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        GatewaySettings(**mesh_settings, trusted_proxies=networks)

    [fault] = caught.value.errors()
    assert fault["loc"] == ("trusted_proxies",)
    assert "name the proxies themselves" in fault["msg"]


@pytest.mark.parametrize(
    "network", ["10.0.0.0/8", "127.0.0.0/8", "fd00::/8", "203.0.113.7/32", "104.16.0.0/13", "::1/128"]
)
def test_networks_of_proxies_are_taken(mesh_settings: dict[str, Any], network: str) -> None:
    assert GatewaySettings(**mesh_settings, trusted_proxies=[network]).trusted_proxies
