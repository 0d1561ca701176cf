"""Which settings are rejected; errors name them."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from mesh_admin.secrets import make_secrets
from mesh_agent.settings import AgentSettings
from mesh_common.process.settings import load_settings


def _models(*entries: dict[str, Any]) -> str:
    blank = {"name": "large", "provider_model": "provider-large", "context_tokens": 8_000}
    return orjson.dumps([blank | entry for entry in entries]).decode()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The required variables only."""
    secret_set = make_secrets()
    jwks_file = tmp_path / "jwks.json"
    jwks_file.write_text(secret_set.service_jwks())
    monkeypatch.setenv("AGENT_SERVICE_KEY", secret_set.service_keys["agent"])
    monkeypatch.setenv("AGENT_SERVICE_JWKS_FILE", str(jwks_file))
    monkeypatch.setenv("AGENT_DATABASE_URL", "postgresql://agent_login_a:x@localhost/mesh")
    monkeypatch.setenv("AGENT_MODELS", _models({}))
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_defaults_let_a_replica_start() -> None:
    settings = load_settings(AgentSettings)

    [model] = settings.models
    assert (model.name, model.capabilities, model.api_key) == ("large", (), None)
    assert model.first_token_timeout_s is None
    assert (settings.max_runs, settings.drain_s, settings.lease_ttl_s) == (200, 60.0, 6.0)
    assert settings.eval_sample_ratio == 0.1


def test_models_keep_their_order_which_is_that_of_fallback(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AGENT_MODELS", _models({"name": "z"}, {"name": "a"}, {"name": "m"}))

    assert [model.name for model in load_settings(AgentSettings).models] == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_MODELS", _models({"first_token_timeout_s": 0})),
        ("AGENT_MODELS.0.provider", _models({"provider": "acme"})),
        ("AGENT_MODELS.0.quirks.call_ids", _models({"quirks": {"call_ids": "short"}})),
        ("AGENT_MODELS.0.quirks.stream_option", _models({"quirks": {"stream_option": True}})),
        ("AGENT_MODELS.0.quirks.reasoning_fields.0", _models({"quirks": {"reasoning_fields": ["thoughts"]}})),
        ("AGENT_MODELS.0.quirks.extra_headers", _models({"quirks": {"extra_headers": {"Authorization": "x"}}})),
        ("AGENT_MODELS.0.quirks.extra_headers", _models({"quirks": {"extra_headers": {"X-A": "a\r\nb"}}})),
        ("AGENT_MODELS.0.quirks.extra_body", _models({"quirks": {"extra_body": {"messages": []}}})),
        ("AGENT_MODELS.0.quirks", _models({"quirks": "none"})),
        ("AGENT_MODELS", _models()),
        ("AGENT_MODELS", _models({}, {})),
        ("AGENT_MODELS", _models({"name": ""})),
        ("AGENT_MODELS", _models({"context_tokens": 511})),
        ("AGENT_MODELS", _models({"capabilities": ["flying"]})),
        ("AGENT_MODELS", _models({"input_usd_per_mtok": -1})),
        ("AGENT_MAX_RUNS", "0"),
        ("AGENT_MAX_RUNS", "many"),
        ("AGENT_LEASE_TTL_S", "0.5"),
        ("AGENT_EVAL_SAMPLE_RATIO", "1.1"),
        ("AGENT_RECALL_TIMEOUT_S", "0"),
        ("AGENT_HISTORY_TOKENS", "-1"),
        ("AGENT_SERVICE_KEY", "not a key"),
        ("AGENT_SERVICE_JWKS_FILE", "no-such-file"),
        ("AGENT_LOG_LEVEL", "LOUD"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    environment.setenv(name.partition(".")[0], value)

    with pytest.raises(SystemExit) as caught:
        load_settings(AgentSettings)

    assert caught.value.code == 2
    faults = capsys.readouterr().err.splitlines()
    assert faults
    assert all(fault.startswith(name) for fault in faults)


def test_fault_of_a_quirk_says_what_is_allowed(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("AGENT_MODELS", _models({"quirks": {"output_limit": "tokens"}}))

    with pytest.raises(SystemExit):
        load_settings(AgentSettings)

    [fault] = capsys.readouterr().err.splitlines()
    assert fault == (
        "AGENT_MODELS.0.quirks.output_limit: Input should be 'max_tokens', 'max_completion_tokens' or 'none'"
    )


def test_two_models_of_one_name_are_refused_in_words(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("AGENT_MODELS", _models({"name": "large"}, {"name": "small"}, {"name": "large"}))

    with pytest.raises(SystemExit):
        load_settings(AgentSettings)

    assert "two entries have the same name" in capsys.readouterr().err


def test_all_faults_are_told_at_once(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.delenv("AGENT_MODELS")
    environment.setenv("AGENT_MAX_RUNS", "0")
    environment.setenv("AGENT_SERVICE_KEY", "secret words")

    with pytest.raises(SystemExit):
        load_settings(AgentSettings)

    output = capsys.readouterr().err
    assert {line.partition(":")[0] for line in output.splitlines()} == {
        "AGENT_MODELS",
        "AGENT_MAX_RUNS",
        "AGENT_SERVICE_KEY",
    }
    assert "secret words" not in output


def test_secrets_are_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AGENT_MODELS", _models({"api_key": "sk-of-a-model"}))
    environment.setenv("AGENT_OPENAI_API_KEY", "sk-of-all")

    shown = repr(load_settings(AgentSettings))

    assert "sk-of" not in shown
    assert "PRIVATE KEY" not in shown


def test_http_tool_does_not_take_the_name_of_an_mcp_servers_tool(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = {"type": "object", "properties": {}}
    tool = {"name": "shop__order", "description": "Orders.", "url": "http://a.internal/", "parameters": parameters}
    environment.setenv("AGENT_HTTP_TOOLS", orjson.dumps([tool]).decode())
    environment.setenv(
        "AGENT_MCP_SERVERS", orjson.dumps([{"name": "shop", "url": "http://shop.internal/mcp"}]).decode()
    )

    with pytest.raises(SystemExit):
        load_settings(AgentSettings)

    assert "the name 'shop__order' belongs to the server 'shop'" in capsys.readouterr().err
