"""Errors of providers, classified for retry and fallback."""

from typing import Final

from mesh_common.model_server import Refusal

from mesh_agent.domain.runs import RunError

TIMED_OUT: Final = "MODEL_TIMEOUT"
MISCONFIGURED: Final = "MODEL_MISCONFIGURED"
CONTEXT_TOO_LONG: Final = "CONTEXT_TOO_LONG"
EMPTY_ANSWER: Final = "EMPTY_ANSWER"


class ProviderError(Exception):
    """`is_retryable`: the same model may answer if called again. `has_spoken`: it sent tokens before it failed.

    `status` is that of HTTP, for the operator.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_retryable: bool,
        has_spoken: bool = False,
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_retryable = is_retryable
        self.has_spoken = has_spoken
        self.retry_after_s = retry_after_s
        self.status = status


_REASONS: Final = {
    Refusal.RATE_LIMITED: "MODEL_RATE_LIMITED",
    Refusal.UNAVAILABLE: "MODEL_UNAVAILABLE",
    Refusal.MISCONFIGURED: MISCONFIGURED,
    Refusal.CONTEXT_TOO_LONG: CONTEXT_TOO_LONG,
    Refusal.REFUSED: "MODEL_REFUSED",
}
_DETAILS: Final = {
    "MODEL_UNAVAILABLE": "The model cannot be reached right now. Try again.",
    TIMED_OUT: "The model did not answer in time. Try again.",
    "MODEL_RATE_LIMITED": "The model accepts no more requests right now. Try again later.",
    "MODEL_CUT_OFF": "The model stopped in the middle of its answer. Try again.",
    "MODEL_INVALID_ANSWER": "The model gave an answer that is not valid. Try again.",
    EMPTY_ANSWER: "The model gave no answer. Try again, or put it differently.",
    "MODEL_REFUSED": "The model refused the request.",
    MISCONFIGURED: "The model is not set up correctly. The operator of this service must correct it.",
    CONTEXT_TOO_LONG: "The conversation is too long for the model. Shorten the message or start a new thread.",
}
# The same run would end in the same way.
_FINAL: Final = frozenset({"MODEL_REFUSED", MISCONFIGURED, CONTEXT_TOO_LONG})


def refused(
    refusal: Refusal, status: int | None, retry_after_s: float | None, *, has_spoken: bool = False
) -> ProviderError:
    """The error for a model server's refusal."""
    return ProviderError(
        _REASONS[refusal],
        is_retryable=refusal.is_temporary,
        has_spoken=has_spoken,
        retry_after_s=retry_after_s if refusal.is_temporary else None,
        status=status,
    )


def nothing_said() -> RunError:
    """The error of a run whose rounds have no text, for example because its model only ever calls tools."""
    return RunError(EMPTY_ANSWER, _DETAILS[EMPTY_ANSWER], is_retryable=True)


def run_error_of(error: ProviderError) -> RunError:
    """The error that is shown to the user."""
    return RunError(error.reason, _DETAILS[error.reason], is_retryable=error.reason not in _FINAL)
