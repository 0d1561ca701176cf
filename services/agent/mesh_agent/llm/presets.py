"""The quirks of known providers. docs/models.md shows this table; a test compares the two."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from mesh_agent.llm.quirks import Quirks
from mesh_agent.model_settings import Provider


@dataclass(frozen=True, slots=True)
class Preset:
    """`source` is where the quirks are documented or reported."""

    quirks: Quirks
    source: str


PRESETS: Final[Mapping[Provider, Preset]] = {
    "openai": Preset(
        Quirks(output_limit="max_completion_tokens"),
        "openai-python, types of chat completions",
    ),
    "azure": Preset(
        Quirks(output_limit="max_completion_tokens"),
        "Azure AI documentation, reasoning models",
    ),
    "anthropic": Preset(
        Quirks(alternate_roles=True),
        "Anthropic, OpenAI SDK compatibility",
    ),
    "gemini": Preset(
        Quirks(reasoning_fields=("extra_content",), reasoning_placeholders=True),
        "Gemini API, thought signatures",
    ),
    "mistral": Preset(
        Quirks(stream_options=False, alternate_roles=True, call_ids="nine_alphanumerics", empty_content="empty"),
        "Mistral API, OpenAPI document; pydantic-ai and vercel/ai, their Mistral clients",
    ),
    "deepseek": Preset(
        Quirks(reasoning_fields=("reasoning_content",), reasoning_placeholders=True),
        "DeepSeek API, thinking mode",
    ),
    "openrouter": Preset(
        Quirks(reasoning_fields=("reasoning", "reasoning_details", "extra_content")),
        "OpenRouter, reasoning tokens",
    ),
    "vllm": Preset(
        Quirks(alternate_roles=True, reasoning_fields=("reasoning_content", "reasoning"), call_ids="any"),
        "vLLM, protocol of chat completions and reasoning outputs; vllm-project/vllm#26233",
    ),
    "llama_cpp": Preset(
        Quirks(alternate_roles=True, reasoning_fields=("reasoning_content",), call_ids="any"),
        "llama.cpp, README of tools/server",
    ),
    "ollama": Preset(
        Quirks(alternate_roles=True, reasoning_fields=("reasoning",), call_ids="any"),
        "ollama/ollama, openai/openai.go",
    ),
    "other": Preset(
        Quirks(alternate_roles=True, reasoning_fields=("reasoning_content", "reasoning_details", "extra_content")),
        "the form that most servers accept",
    ),
}
_PROVIDERS_BY_HOST: Final[Mapping[str, Provider]] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gemini",
    "api.mistral.ai": "mistral",
    "api.deepseek.com": "deepseek",
    "openrouter.ai": "openrouter",
}


def provider_at(base_url: str) -> Provider:
    """The provider whose host this is; `other` for an unknown one."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return "other"
    known = (name for domain, name in _PROVIDERS_BY_HOST.items() if host == domain or host.endswith(f".{domain}"))
    return next(known, "other")


def quirks_of(provider: Provider, given: Mapping[str, Any]) -> Quirks:
    """The provider's preset, with the quirks that are `given` in place of its own."""
    return replace(PRESETS[provider].quirks, **given)
