"""The doctor, asking servers that are as strict as real ones."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import yaml
from aiohttp import web
from fakes.agent.runs import a_model
from mesh_agent.doctor.asking import MAX_OUTPUT_TOKENS, MAX_REQUESTS
from mesh_agent.doctor.command import examine, parser
from mesh_agent.llm.presets import PRESETS, quirks_of
from mesh_agent.llm.registry import Model, model_of
from mesh_agent.model_settings import ModelSettings, Provider
from support.model_provider import answering, open_provider
from support.strict_servers import StrictServer, mistral_like, openai_like, opened


def entry_of(url: str, provider: Provider, **quirks: Any) -> Model:
    return replace(a_model(base_url=url), provider=provider, quirks=quirks_of(provider, quirks))


@asynccontextmanager
async def examined(server: StrictServer, provider: Provider, **quirks: Any) -> AsyncIterator[tuple[int, Model]]:
    async with opened(server):
        model = entry_of(server.url, provider, **quirks)
        yield await examine(model, 60.0, "yaml"), model


def pasted(model: Model, output: str) -> Model:
    """The entry with the printed piece of configuration in it."""
    _, _, piece = output.partition("\nprovider: ")
    fields = {"name": "m", "provider_model": model.provider_model, "context_tokens": 8_000, "base_url": model.base_url}
    entry = ModelSettings.model_validate({**fields, **yaml.safe_load(f"provider: {piece}")})
    return model_of(entry, "", None)


async def test_mistral_needs_its_quirks(capsys: pytest.CaptureFixture[str]) -> None:
    async with examined(mistral_like(), "openai") as (status, model):
        output = capsys.readouterr().out

    assert status == 1
    quirks = pasted(model, output).quirks
    assert (quirks.output_limit, quirks.stream_options, quirks.instructions_role) == ("max_tokens", False, "system")
    assert (quirks.call_ids, quirks.alternate_roles) == ("nine_alphanumerics", True)
    assert "max_tokens: limits, max_completion_tokens: refused" in output
    assert "always reported; stream_options is refused" in output
    assert "refuses two messages in a row and a message after a tool's result" in output


async def test_reasoning_model_of_openai_needs_the_other_limit(capsys: pytest.CaptureFixture[str]) -> None:
    async with examined(openai_like(), "other") as (status, model):
        output = capsys.readouterr().out

    assert status == 1
    assert pasted(model, output).quirks == replace(PRESETS["other"].quirks, output_limit="max_completion_tokens")
    assert output.endswith('\nprovider: other\nquirks:\n  output_limit: "max_completion_tokens"\n\n')


@pytest.mark.parametrize(("make", "provider"), [(mistral_like, "mistral"), (openai_like, "openai")])
async def test_printed_entry_and_preset_suit(make: Any, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    async with examined(make(), "ollama") as (_, model):
        repaired = pasted(model, capsys.readouterr().out)
    async with opened(make()) as server:
        statuses = [
            await examine(replace(each, base_url=server.url), 60.0, "yaml")
            for each in (repaired, entry_of(server.url, provider))
        ]

    assert statuses == [0, 0]
    assert capsys.readouterr().out.count("The entry suits this server:") == 2


async def test_questions_are_few_and_small(capsys: pytest.CaptureFixture[str]) -> None:
    server = mistral_like()
    async with examined(server, "openai"):
        pass

    capsys.readouterr()
    assert len(server.requests) <= MAX_REQUESTS / 2
    limits = {body.get("max_tokens", body.get("max_completion_tokens")) for body in server.requests}
    assert limits == {16, MAX_OUTPUT_TOKENS}


async def test_own_headers_and_fields_are_sent_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    server = openai_like()
    async with examined(server, "openai", extra_body={"seed": 7}) as (status, model):
        assert pasted(model, capsys.readouterr().out).quirks == model.quirks

    assert status == 0
    assert all(body["seed"] == 7 for body in server.requests)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "no answer: MODEL_MISCONFIGURED (status 401)"),
        (503, "no answer: MODEL_UNAVAILABLE (status 503)"),
        (400, "no answer: refuses even a plain question"),
    ],
)
async def test_provider_that_cannot_be_asked_is_reported(
    status: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_provider(answering(b'{"error": "sk-secret"}', status)) as provider:
        model = replace(a_model(base_url=str(provider.base_url)), api_key="sk-secret")
        assert await examine(model, 60.0, "yaml") == 2

    output = capsys.readouterr().out
    assert reason in output
    assert "sk-secret" not in output


async def test_time_of_all_questions_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with open_provider(hang) as provider:
        assert await examine(a_model(base_url=str(provider.base_url)), 0.2, "yaml") == 2

    assert "longer than 0.2 s" in capsys.readouterr().out


async def test_password_in_an_address_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(openai_like()) as server:
        address = server.url.replace("http://", "http://me:secret@")
        await examine(replace(a_model(base_url=address), api_key=""), 60.0, "yaml")

    assert "secret" not in capsys.readouterr().out


@pytest.mark.parametrize("by_name", [True, False])
async def test_command_reads_the_settings_of_the_agent(by_name: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    server = openai_like()
    async with opened(server):
        models = [{"name": "a", "provider_model": "m", "context_tokens": 8_000, "provider": "openai"}]
        environment = {"AGENT_OPENAI_BASE_URL": server.url, "AGENT_OPENAI_API_KEY": "sk-secret"}
        environment |= {"AGENT_MODELS": json.dumps(models)} if by_name else {}
        chosen = ("--model", "a") if by_name else ("--provider-model", "m")
        command = (sys.executable, "-m", "mesh_agent", "doctor", *chosen, "--format", "json")
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=-1, stderr=-1)
        output, errors = await process.communicate()

    assert errors == b""
    assert process.returncode == (0 if by_name else 1)
    assert server.keys == {"Bearer sk-secret"}
    assert b"sk-secret" not in output
    expected = {"provider": "openai", "quirks": {}}
    if not by_name:
        expected = {"provider": "other", "quirks": {"output_limit": "max_completion_tokens"}}
    assert json.loads(output.strip().rpartition(b"\n")[2]) == expected


def test_arguments_have_a_help() -> None:
    assert "Exit status: 0" in parser().format_help()
