"""`python -m mesh_agent doctor`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from mesh_common.process.logs import configure_logs
from mesh_common.process.settings import load_settings
from mesh_common.process.signals import end_on_sigterm

from mesh_agent.doctor.asking import DoctorError, Examination
from mesh_agent.doctor.questions import ask_all
from mesh_agent.doctor.report import Format, entry, suits, table
from mesh_agent.doctor.settings import DoctorSettings
from mesh_agent.llm.quirks import Quirks
from mesh_agent.llm.registry import Model, model_of
from mesh_agent.model_settings import ModelSettings

# Exit statuses. 2 is also that of wrong arguments and settings.
_SUITS: Final = 0
_NEEDS_QUIRKS: Final = 1
_NO_ANSWER: Final = 2
_ANSWER_S: Final = 60.0
_CONTEXT_TOKENS: Final = 4_096


def doctor_main(arguments: Sequence[str]) -> None:
    end_on_sigterm()
    options = parser().parse_args(arguments)
    configure_logs("agent", "ERROR")
    models = _models(load_settings(DoctorSettings), options.model, options.provider_model)
    if not models:
        sys.exit("No model to ask: set AGENT_MODELS, or name one with --provider-model.")
    statuses = [asyncio.run(examine(model, options.timeout, options.format)) for model in models]
    sys.exit(max(statuses))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="mesh_agent doctor",
        description="Asks the models of AGENT_MODELS seven small questions each, and prints the quirks they need.",
        epilog="Exit status: 0 if all entries suit, 1 if one needs the printed quirks, 2 if a model gives no answer.",
    )
    made.add_argument("--model", help="name of the only entry of AGENT_MODELS to ask")
    made.add_argument(
        "--provider-model", help="a model that is in no entry, at AGENT_OPENAI_BASE_URL with AGENT_OPENAI_API_KEY"
    )
    made.add_argument("--format", choices=("yaml", "json"), default="yaml", help="form of the printed entry")
    made.add_argument("--timeout", type=float, default=180.0, help="seconds for all questions to one model")
    return made


def _models(settings: DoctorSettings, name: str | None, provider_model: str | None) -> list[Model]:
    entries: Sequence[ModelSettings] = settings.models
    if provider_model:
        unnamed = ModelSettings(
            name=provider_model, provider_model=provider_model, context_tokens=_CONTEXT_TOKENS, capabilities=("tools",)
        )
        entries = (unnamed,)
    elif name:
        entries = [each for each in entries if each.name == name]
    return [model_of(each, settings.openai_base_url, settings.openai_api_key) for each in entries]


async def examine(model: Model, timeout_s: float, form: Format) -> int:
    """Prints the report on one model and returns the exit status."""
    sys.stdout.write(f"{model.name}: {model.provider_model} at {_address(model.base_url)}\n")
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=_ANSWER_S)
    # The plainest request, with what only an operator can know.
    plain = Quirks(stream_options=False, extra_headers=model.quirks.extra_headers, extra_body=model.quirks.extra_body)
    asked = replace(model, first_token_timeout_s=model.first_token_timeout_s or _ANSWER_S)
    try:
        async with asyncio.timeout(timeout_s), aiohttp.ClientSession(timeout=timeout) as session:
            findings = await ask_all(Examination(asked, session, plain))
    except TimeoutError:
        sys.stdout.write(f"no answer: the questions took longer than {timeout_s:g} s\n\n")
        return _NO_ANSWER
    except DoctorError as error:
        sys.stdout.write(f"no answer: {error}\n\n")
        return _NO_ANSWER
    is_right = suits(model, findings)
    verdict = "The entry suits this server:" if is_right else "The entry needs:"
    sys.stdout.write(f"\n{table(findings)}\n\n{verdict}\n\n{entry(model, findings, form)}\n\n")
    return _SUITS if is_right else _NEEDS_QUIRKS


def _address(base_url: str) -> str:
    """The URL without a user and a password."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
