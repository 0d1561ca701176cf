"""The environment with which each program of a stack starts."""

from pathlib import Path

import orjson
import pytest
from mesh_admin.secrets import SecretSet, make_secrets
from mesh_common.grpc.edges import SERVICES
from mesh_dev.models import ModelSource, choose_models, model_source_of
from mesh_dev.ports import PortPlan
from mesh_dev.service_environment import ServiceEnvironments
from mesh_dev.settings import DevSettings
from pydantic import SecretStr

PORTS = PortPlan(8000)


@pytest.fixture(scope="module")
def secrets() -> SecretSet:
    return make_secrets()


def environments(secrets: SecretSet, source: ModelSource = "embedded", **settings: object) -> ServiceEnvironments:
    return ServiceEnvironments(
        ports=PORTS,
        secrets=secrets,
        jwks_file=Path("keys/service-jwks.json"),
        models=choose_models(source, PORTS, DevSettings.model_validate(settings)),
        redis_url="redis://:secret@127.0.0.1:8011/0",
        has_traces=True,
        extra={"gateway": {"GATEWAY_CHAT_LIMIT_PER_MINUTE": "7", "GATEWAY_HTTP_HOST": "0.0.0.0"}},  # noqa: S104
    )


def test_no_service_knows_another_ones_secrets(secrets: SecretSet) -> None:
    every = environments(secrets)
    all_secrets = {
        **{f"key of {service}": key for service, key in secrets.service_keys.items()},
        **secrets.passwords,
        "signing key": secrets.signing_key,
    }

    for service in SERVICES:
        values = list(every.of(service).values())
        known = {name for name, secret in all_secrets.items() if any(secret in value for value in values)}
        login = set() if service == "gateway" else {f"{service}_login_a"}
        assert known == {f"key of {service}"} | login | ({"signing key"} if service == "auth" else set())


def test_extra_variables_have_the_last_word(secrets: SecretSet) -> None:
    gateway = environments(secrets).of("gateway")

    assert gateway["GATEWAY_CHAT_LIMIT_PER_MINUTE"] == "7"
    assert gateway["GATEWAY_HTTP_HOST"] == "0.0.0.0"  # noqa: S104 - the value passed above
    assert gateway["GATEWAY_HTTP_PORT"] == "8000"


def test_callers_are_led_to_those_they_may_call(secrets: SecretSet) -> None:
    every = environments(secrets)

    targets = {service: sorted(name for name in every.of(service) if name.endswith("_TARGET")) for service in SERVICES}

    assert targets == {
        "gateway": [f"GATEWAY_{callee}_TARGET" for callee in ("AGENT", "AUTH", "EVAL", "MEMORY")],
        "agent": [f"AGENT_{callee}_TARGET" for callee in ("AUTH", "EVAL", "MEMORY")],
        "auth": [],
        "memory": [],
        "eval": [],
    }
    assert every.of("agent")["AGENT_MEMORY_TARGET"] == "ipv4:127.0.0.1:8006"


def test_embedded_model_extracts_no_facts_but_judges(secrets: SecretSet) -> None:
    every = environments(secrets)

    [model] = orjson.loads(every.of("agent")["AGENT_MODELS"])
    assert (model["name"], model["context_tokens"], model["capabilities"]) == ("smollm2-135m", 4096, [])
    assert every.of("memory")["MEMORY_EXTRACTION_MODEL"] == ""
    assert every.of("memory")["MEMORY_EMBEDDING_QUERY_PREFIX"] == "query: "
    assert every.of("eval")["EVAL_JUDGE_MODEL"] == "smollm2-135m"


def test_key_of_openai_brings_its_models_and_keeps_embeddings_local(secrets: SecretSet) -> None:
    settings = DevSettings(openai_api_key=SecretStr("sk-1"))
    assert model_source_of(settings) == "openai"

    every = environments(secrets, "openai", openai_api_key="sk-1", openai_base_url="https://llm.example/v1/")

    agent, memory, judge = every.of("agent"), every.of("memory"), every.of("eval")
    assert [model["name"] for model in orjson.loads(agent["AGENT_MODELS"])] == ["gpt-4o-mini", "gpt-4o"]
    for prefix, variables in (("AGENT", agent), ("MEMORY", memory), ("EVAL", judge)):
        assert variables[f"{prefix}_OPENAI_API_KEY"] == "sk-1"
        assert variables[f"{prefix}_OPENAI_BASE_URL"] == "https://llm.example/v1"
    assert memory["MEMORY_EXTRACTION_MODEL"] == "gpt-4o-mini"
    assert memory["MEMORY_EMBEDDING_BASE_URL"] == "http://127.0.0.1:8013/v1"


def test_without_a_key_the_embedded_model_answers() -> None:
    assert model_source_of(DevSettings(openai_api_key=None)) == "embedded"
