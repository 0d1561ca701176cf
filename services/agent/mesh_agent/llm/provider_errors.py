"""Errors of providers, classified for retry and fallback."""

from mesh_agent.domain import RunError


class ProviderError(Exception):
    """`is_retryable`: the same model may answer if called again. `has_spoken`: it sent tokens before it failed."""

    def __init__(
        self,
        reason: str,
        *,
        is_retryable: bool,
        has_spoken: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_retryable = is_retryable
        self.has_spoken = has_spoken
        self.retry_after_s = retry_after_s


_DETAILS = {
    "MODEL_UNAVAILABLE": "The model cannot be reached right now. Try again.",
    "MODEL_TIMEOUT": "The model did not answer in time. Try again.",
    "MODEL_RATE_LIMITED": "The model accepts no more requests right now. Try again later.",
    "MODEL_CUT_OFF": "The model stopped in the middle of its answer. Try again.",
    "MODEL_INVALID_ANSWER": "The model gave an answer that is not valid. Try again.",
    "EMPTY_ANSWER": "The model gave no answer. Try again, or put it differently.",
    "MODEL_REFUSED": "The model refused the request.",
}


def run_error_of(error: ProviderError) -> RunError:
    """The error that is shown to the user. All reasons except a rejection may be temporary."""
    return RunError(error.reason, _DETAILS[error.reason], is_retryable=error.reason != "MODEL_REFUSED")
