"""docs/models.md shows the quirks and presets of the code, and its example is a valid setting."""

import re
import shlex
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import orjson
import pytest
from mesh_agent.doctor.asking import MAX_OUTPUT_TOKENS, MAX_REQUESTS
from mesh_agent.doctor.command import parser
from mesh_agent.llm.presets import PRESETS, Preset, provider_at, quirks_of
from mesh_agent.llm.quirks import Quirks
from mesh_agent.model_settings import ModelSettings, Provider, QuirkSettings
from pydantic import TypeAdapter

_ROOT = Path(__file__).parents[3]
_DOC = (_ROOT / "docs" / "models.md").read_text()
_MAKEFILE = (_ROOT / "Makefile").read_text()
_TEMPLATE = (_ROOT / "services" / "agent" / ".env.example").read_text()


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode().replace('"', "").replace(",", ", ")


def _row(provider: str, preset: Preset) -> str:
    default = asdict(Quirks())
    own = {name: value for name, value in asdict(preset.quirks).items() if value != default[name]}
    quirks = ", ".join(f"`{name}: {_shown(value)}`" for name, value in own.items())
    return f"| `{provider}` | {quirks} | {preset.source} |"


def test_table_of_presets_is_that_of_the_code() -> None:
    rows = [_row(provider, preset) for provider, preset in PRESETS.items()]
    expected = "\n".join(["| provider | quirks | source |", "|---|---|---|", *rows])

    shown = re.findall(r"<!-- presets -->\n(.*)\n<!-- /presets -->", _DOC, re.DOTALL)

    assert shown == [expected]


def test_table_of_quirks_names_each_with_its_values() -> None:
    table = re.search(r"\| quirk \| values.*?\n\n", _DOC, re.DOTALL)
    assert table
    shown = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table[0], re.MULTILINE))

    assert list(shown) == list(QuirkSettings.model_fields)
    for name, values in shown.items():
        allowed = _allowed(QuirkSettings.model_fields[name].annotation)
        assert set(re.findall(r"`(\w+)`", values)) == allowed, name


def _allowed(annotation: Any) -> set[str]:
    if annotation is bool:
        return {"true", "false"}
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if get_origin(annotation) is dict:
        return set()
    return {value for each in get_args(annotation) for value in _allowed(each)}


def test_settings_and_presets_have_the_same_quirks() -> None:
    assert [field.name for field in fields(Quirks)] == list(QuirkSettings.model_fields)
    assert list(PRESETS) == list(get_args(Provider))


@pytest.mark.parametrize("provider", PRESETS)
def test_preset_is_a_valid_setting_and_overrides_count(provider: Provider) -> None:
    preset = PRESETS[provider].quirks

    assert quirks_of(provider, QuirkSettings.model_validate(asdict(preset)).given()) == preset
    assert quirks_of(provider, QuirkSettings(stream_options=False).given()).stream_options is False
    assert quirks_of(provider, QuirkSettings(reasoning_fields=()).given()).reasoning_fields == ()


def test_schema_of_the_chart_has_the_same_fields_and_values() -> None:
    definitions = orjson.loads((_ROOT / "deploy/helm/mesh/values.schema.json").read_bytes())["definitions"]
    quirks = definitions["quirks"]["properties"]

    assert definitions["model"]["properties"]["provider"]["enum"] == list(get_args(Provider))
    # A key must not be in values; entries with their own come from a Secret.
    assert set(definitions["model"]["properties"]) == set(ModelSettings.model_fields) - {"api_key"}
    assert list(quirks) == list(QuirkSettings.model_fields)
    for name, schema in quirks.items():
        values = schema.get("enum", schema.get("items", {}).get("enum"))
        if values:
            assert set(values) == _allowed(QuirkSettings.model_fields[name].annotation), name


def test_example_of_the_page_is_a_valid_setting() -> None:
    [block] = re.findall(r"^```json\n(.*?)^```", _DOC, re.MULTILINE | re.DOTALL)

    large, local = TypeAdapter(tuple[ModelSettings, ...]).validate_json(block)

    assert (large.provider, local.quirks.instructions_role) == ("mistral", "user")


def test_commands_of_the_page_are_known() -> None:
    blocks = [
        shlex.split(line)
        for block in re.findall(r"^```sh\n(.*?)^```", _DOC, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if not line.startswith("#")
    ]
    made = [words[2].removeprefix("ARGS=").split() for words in blocks if words[:2] == ["make", "doctor"]]
    called = [words[4:] for words in blocks if words[:4] == ["python", "-m", "mesh_agent", "doctor"]]

    assert [vars(parser().parse_args(arguments))["provider_model"] for arguments in made] == ["qwen3"]
    assert [vars(parser().parse_args(arguments))["model"] for arguments in called] == ["large"]
    assert re.search(r"^doctor: .*\n\t@\$\(PYTHON\) -m mesh_agent doctor \$\(ARGS\)$", _MAKEFILE, re.MULTILINE)
    assert f"at most {MAX_REQUESTS} requests of at most {MAX_OUTPUT_TOKENS} output" in _DOC


def test_template_names_every_field_of_an_entry() -> None:
    [comment] = re.findall(r"# The model registry.*?(?=^AGENT_MODELS=)", _TEMPLATE, re.DOTALL | re.MULTILINE)

    assert [name for name in ModelSettings.model_fields if not re.search(rf"\b{name}\b", comment)] == []


@pytest.mark.parametrize(
    ("base_url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://res.openai.azure.com/openai/v1", "azure"),
        ("https://api.mistral.ai/v1/", "mistral"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini"),
        ("https://OpenRouter.ai:443/api/v1", "openrouter"),
        ("https://api.openai.com.example.org/v1", "other"),
        ("https://notopenrouter.ai/v1", "other"),
        ("http://127.0.0.1:8000/v1", "other"),
        ("http://[bad/v1", "other"),
        ("", "other"),
    ],
)
def test_provider_is_derived_from_the_host(base_url: str, provider: str) -> None:
    assert provider_at(base_url) == provider
