"""What a failed call of the extraction model means: whether to try again, when, and what the job is told."""

from typing import Final

import openai
from mesh_common.clock import utc_now
from mesh_common.errors import InvalidInput, MeshError, Unavailable
from mesh_common.model_server import Refusal, refusal_of, requested_wait_s
from tenacity import RetryCallState, wait_random_exponential

_BACKOFF: Final = wait_random_exponential(0.2, 2.0)
_RETRY_AFTER_S: Final = 5.0
# If a provider requests a longer wait, the job is retried later instead of blocking a worker.
_MAX_WAIT_S: Final = 10.0


class ModelUnavailable(Unavailable):
    """Another try may succeed, after `wait_s` if the provider requests a wait."""

    def __init__(self, wait_s: float | None = None) -> None:
        super().__init__("The extraction model gives no valid answer.", retry_after_s=wait_s or _RETRY_AFTER_S)
        self.wait_s = wait_s


def error_of(cause: BaseException | None) -> MeshError:
    """`cause`: the error of the provider's client, or of reading its answer."""
    if not isinstance(cause, openai.APIStatusError):
        return ModelUnavailable()
    match refusal_of(cause.status_code, cause.response.content):
        case Refusal.RATE_LIMITED | Refusal.UNAVAILABLE:
            return ModelUnavailable(requested_wait_s(cause.response.headers, utc_now()))
        case Refusal.CONTEXT_TOO_LONG | Refusal.REFUSED:
            # The provider rejects the request itself, so a retry would be rejected too.
            return InvalidInput("The model rejects this turn.", reason="EXTRACTION_REFUSED")
        case Refusal.MISCONFIGURED:
            # A wrong key, model or address. The job waits until the operator has fixed it.
            return Unavailable(
                f"The extraction model refused the call with {cause.status_code}.",
                reason="EXTRACTION_MISCONFIGURED",
                retry_after_s=_RETRY_AFTER_S,
            )


def is_retryable(error: BaseException) -> bool:
    """Whether to try again at once, within the same job."""
    return isinstance(error, ModelUnavailable) and (error.wait_s or 0.0) <= _MAX_WAIT_S


def wait_s(state: RetryCallState) -> float:
    """For tenacity: the provider's wait, or the back-off if that is longer."""
    error = state.outcome.exception() if state.outcome else None
    requested_s = error.wait_s if isinstance(error, ModelUnavailable) else None
    return max(requested_s or 0.0, _BACKOFF(state))
