"""The template of settings contains every setting of the gateway and nothing else."""

from pathlib import Path

from mesh_gateway.settings import GatewaySettings

EXAMPLE = Path(__file__).parents[3] / "services" / "gateway" / ".env.example"


def test_example_names_every_setting_once() -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    named = [line.partition("=")[0] for line in lines]
    known = {f"GATEWAY_{name.upper()}" for name in GatewaySettings.model_fields} - {"GATEWAY_OTLP_ENDPOINT"}

    assert sorted(named) == sorted(known | {"OTEL_EXPORTER_OTLP_ENDPOINT"})


def test_secrets_have_no_value_in_the_example() -> None:
    assert "GATEWAY_SERVICE_KEY=\n" in EXAMPLE.read_text()
    assert "GATEWAY_REDIS_URL=\n" in EXAMPLE.read_text()
