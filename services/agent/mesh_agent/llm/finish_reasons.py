"""Why an answer ended: the words of providers, and what they mean."""

from enum import StrEnum
from typing import Final


class Finish(StrEnum):
    """The values are the ones that clients see; `FAILED` is never the end of a run that succeeded."""

    END = "stop"
    LENGTH = "length"
    FILTERED = "content_filter"
    FAILED = "failed"


# Compared in lower case. A word that is not listed and has none of the stems below is an end.
_MEANINGS: Final[dict[Finish, tuple[str, ...]]] = {
    Finish.END: (
        # OpenAI, Azure, Mistral, DeepSeek, vLLM
        "stop",
        "tool_calls",
        "function_call",
        # Anthropic
        "end_turn",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        # Together, Cohere and Ollama (Gemini says STOP)
        "eos",
        "complete",
        "done",
    ),
    Finish.LENGTH: (
        "length",
        "max_tokens",
        "max_output_tokens",
        "model_length",
        "model_context_window_exceeded",
        "context_length_exceeded",
        "max_completion_tokens",
        "max_length",
        # Cohere
        "error_limit",
    ),
    Finish.FILTERED: (
        "content_filter",
        "content_filtered",
        # Anthropic
        "refusal",
        # Gemini
        "safety",
        "recitation",
        "language",
        "blocklist",
        "prohibited_content",
        "spii",
        "image_safety",
        "image_prohibited_content",
        "image_recitation",
        "model_armor",
        # Zhipu, Bedrock
        "sensitive",
        "guardrail_intervened",
        # Cohere
        "error_toxic",
    ),
    Finish.FAILED: (
        "error",
        "network_error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "timeout",
        "failed",
        "server_error",
        "internal_error",
        "incomplete",
        "interrupted",
        "overloaded",
        "unavailable",
        # DeepSeek
        "insufficient_system_resource",
        # Gemini: no call that can be made came out of it
        "malformed_function_call",
        "unexpected_tool_call",
        "too_many_tool_calls",
        "other",
        "image_other",
        "no_image",
    ),
}
_FINISH_OF: Final = {word: finish for finish, words in _MEANINGS.items() for word in words}
# Parts of words that nobody has listed yet ("upstream_error", "max_tokens_reached").
_STEMS: Final = (
    ("error", Finish.FAILED),
    ("abort", Finish.FAILED),
    ("cancel", Finish.FAILED),
    ("timeout", Finish.FAILED),
    ("fail", Finish.FAILED),
    ("filter", Finish.FILTERED),
    ("safety", Finish.FILTERED),
    ("prohibited", Finish.FILTERED),
    ("length", Finish.LENGTH),
    ("max_", Finish.LENGTH),
)
# Azure and Google have written their words with such prefixes ("finish_reason_safety").
_PREFIXES: Final = ("finish_reason_", "finishreason.")


def finish_of(reason: str) -> Finish:
    """The meaning of a provider's word, in any case and with hyphens or underscores."""
    word = reason.strip().lower().replace("-", "_").replace(" ", "_")
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    return _FINISH_OF.get(word) or next((finish for stem, finish in _STEMS if stem in word), Finish.END)
