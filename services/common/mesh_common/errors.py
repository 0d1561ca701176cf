"""The one error tree of the mesh.

A use case raises one of these; it crosses gRPC as it is (`error_wire`) and is rendered for people in exactly
one place (the gateway's `problems`). Messages are safe to show to users; causes stay behind `from`.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldFault:
    """One field that is wrong: its path in the caller's words (`message`, `metadata.key`) and why."""

    field: str
    message: str


class MeshError(Exception):
    """An error the mesh speaks of by name.

    `reason` is stable, UPPER_SNAKE and at most 63 characters (google.rpc.ErrorInfo); callers branch on it.
    `retry_after_s` tells the caller how long to wait, where waiting helps.
    """

    default_reason: ClassVar[str] = "INTERNAL"
    is_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        retry_after_s: float | None = None,
        fields: tuple[FieldFault, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.retry_after_s = retry_after_s
        self.fields = fields


class InvalidInput(MeshError):
    """The request can never succeed as it is."""

    default_reason = "INVALID_INPUT"

    @classmethod
    def of_field(cls, field: str, message: str) -> "InvalidInput":
        return cls(f"{field}: {message}", fields=(FieldFault(field, message),))


class IdempotencyKeyReused(InvalidInput):
    """The key was used before with another body."""

    default_reason = "IDEMPOTENCY_KEY_REUSED"


class TooLarge(MeshError):
    """More was sent than is taken."""

    default_reason = "TOO_LARGE"


class Unauthenticated(MeshError):
    """Nobody, or nobody we believe."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(MeshError):
    """Somebody who may not. Never used for another user's thing: that is `NotFound`."""

    default_reason = "PERMISSION_DENIED"


class NotFound(MeshError):
    """Not there, or not the caller's."""

    default_reason = "NOT_FOUND"


class AlreadyExists(MeshError):
    """The name is taken."""

    default_reason = "ALREADY_EXISTS"


class Conflict(MeshError):
    """Somebody else was faster: retry the whole operation."""

    default_reason = "CONFLICT"
    is_retryable = True


class PreconditionFailed(MeshError):
    """The thing is in another state: change that first."""

    default_reason = "PRECONDITION_FAILED"


class RateLimited(MeshError):
    """Too many requests in a window."""

    default_reason = "RATE_LIMITED"
    is_retryable = True


class QuotaExceeded(RateLimited):
    """A budget is used up."""

    default_reason = "QUOTA_EXCEEDED"


class Unavailable(MeshError):
    """A part of the mesh is away or full: retry this call."""

    default_reason = "UNAVAILABLE"
    is_retryable = True


class DeadlineExceeded(MeshError):
    """No answer in time; whether the work was done is unknown."""

    default_reason = "DEADLINE_EXCEEDED"
    is_retryable = True


class Internal(MeshError):
    """A fault of ours, its text withheld."""

    default_reason = "INTERNAL"
