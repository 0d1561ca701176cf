"""What a failed call of the extraction model means. The queue retries; the client never does."""

from typing import Final

import httpx2
import openai
from mesh_common.clock import utc_now
from mesh_common.errors import InvalidInput, MeshError, Unavailable
from mesh_common.model_server import PossiblyPaid, Refusal, is_possibly_paid, refusal_of
from mesh_common.model_server_waits import requested_wait_s

from mesh_memory.ports import UnreadableAnswer

_RETRY_AFTER_S: Final = 5.0
_NO_ANSWER: Final = "The extraction model does not answer."


def error_of(cause: BaseException | None) -> MeshError:
    """`cause`: the error of the provider's client, or of reading its answer."""
    if isinstance(cause, UnreadableAnswer):
        return cause
    if isinstance(cause, openai.APIResponseValidationError | ValueError):
        # The answer to the call is no JSON, although its status is 200.
        return UnreadableAnswer()
    if not isinstance(cause, openai.APIStatusError):
        return _no_answer(cause)
    return _refused(cause)


def _refused(cause: openai.APIStatusError) -> MeshError:
    if is_possibly_paid(cause.status_code):
        return PossiblyPaid(_NO_ANSWER, reason="EXTRACTION_TIMEOUT")
    match refusal_of(cause.status_code, cause.response.content):
        case Refusal.RATE_LIMITED | Refusal.UNAVAILABLE:
            return _unavailable(requested_wait_s(cause.response.headers, utc_now(), cause.response.content))
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


def _no_answer(cause: BaseException | None) -> Unavailable:
    """A server that was never reached costs nothing."""
    beneath = cause.__cause__ if isinstance(cause, openai.APIConnectionError) else cause
    if isinstance(
        beneath, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.UnsupportedProtocol
    ):
        return _unavailable(None)
    return PossiblyPaid(_NO_ANSWER, reason="EXTRACTION_TIMEOUT")


def _unavailable(wait_s: float | None) -> Unavailable:
    return Unavailable(_NO_ANSWER, retry_after_s=wait_s or _RETRY_AFTER_S)
