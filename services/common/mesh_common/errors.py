"""The error classes of the mesh.

A use case raises one of these. It crosses gRPC unchanged (`error_wire`) and is rendered for people in exactly one place
(the gateway's `problems`). Messages are safe to show to users; causes are kept by `from`.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldFault:
    """One invalid field: its path as the caller knows it (`message`, `metadata.key`) and the reason."""

    field: str
    message: str


class MeshError(Exception):
    """A known error.

    `reason` is stable, UPPER_SNAKE and at most 63 characters (google.rpc.ErrorInfo); callers branch on it.
    `retry_after_s` is how long the caller should wait, if waiting helps.
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
    """The request can never succeed unchanged."""

    default_reason = "INVALID_INPUT"

    @classmethod
    def of_field(cls, field: str, message: str) -> "InvalidInput":
        return cls(f"{field}: {message}", fields=(FieldFault(field, message),))


class IdempotencyKeyReused(InvalidInput):
    """The key was already used with another body."""

    default_reason = "IDEMPOTENCY_KEY_REUSED"


class TooLarge(MeshError):
    """The request is larger than the limit."""

    default_reason = "TOO_LARGE"


class Unauthenticated(MeshError):
    """The caller's identity is missing or cannot be verified."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(MeshError):
    """The caller is not allowed to do this. Never used for another user's objects: those are `NotFound`."""

    default_reason = "PERMISSION_DENIED"


class NotFound(MeshError):
    """The object does not exist or does not belong to the caller."""

    default_reason = "NOT_FOUND"


class AlreadyExists(MeshError):
    """The name is taken."""

    default_reason = "ALREADY_EXISTS"


class Conflict(MeshError):
    """A concurrent change came first: retry the complete operation."""

    default_reason = "CONFLICT"
    is_retryable = True


class PreconditionFailed(MeshError):
    """The object is in the wrong state: change that first."""

    default_reason = "PRECONDITION_FAILED"


class RateLimited(MeshError):
    """Too many requests in a time window."""

    default_reason = "RATE_LIMITED"
    is_retryable = True


class QuotaExceeded(RateLimited):
    """A budget is used up."""

    default_reason = "QUOTA_EXCEEDED"


class Unavailable(MeshError):
    """A part of the mesh is down or overloaded: retry this call."""

    default_reason = "UNAVAILABLE"
    is_retryable = True


class DeadlineExceeded(MeshError):
    """There was no answer in time; it is unknown whether the work was done."""

    default_reason = "DEADLINE_EXCEEDED"
    is_retryable = True


class Internal(MeshError):
    """A bug or failure inside the mesh; its text is withheld."""

    default_reason = "INTERNAL"
