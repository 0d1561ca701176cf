"""MeshError over gRPC: google.rpc.Status with ErrorInfo, RetryInfo and BadRequest, in both directions.

The format follows https://google.aip.dev/193. An error arrives with the type with which it was raised, so no service
matches on texts or codes.
"""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from mesh_common import errors
from mesh_common.errors import FieldFault, MeshError

DOMAIN = "mesh"
# The reason of the Internal that a call raises if the callee does not know the RPC: the previous release.
UNIMPLEMENTED = "UNIMPLEMENTED"
# The reason of the PermissionDenied for a caller that the RPC is not meant for. The previous release also answers so to
# calls that it does not know.
EDGE_NOT_ALLOWED = "EDGE_NOT_ALLOWED"

# Most specific class first: the first match decides the code.
_CODES: tuple[tuple[type[MeshError], grpc.StatusCode, int], ...] = (
    (errors.InvalidInput, grpc.StatusCode.INVALID_ARGUMENT, code_pb2.INVALID_ARGUMENT),
    (errors.TooLarge, grpc.StatusCode.OUT_OF_RANGE, code_pb2.OUT_OF_RANGE),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, code_pb2.UNAUTHENTICATED),
    (errors.PermissionDenied, grpc.StatusCode.PERMISSION_DENIED, code_pb2.PERMISSION_DENIED),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND, code_pb2.NOT_FOUND),
    (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS, code_pb2.ALREADY_EXISTS),
    (errors.Conflict, grpc.StatusCode.ABORTED, code_pb2.ABORTED),
    (errors.PreconditionFailed, grpc.StatusCode.FAILED_PRECONDITION, code_pb2.FAILED_PRECONDITION),
    (errors.RateLimited, grpc.StatusCode.RESOURCE_EXHAUSTED, code_pb2.RESOURCE_EXHAUSTED),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE, code_pb2.UNAVAILABLE),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED, code_pb2.DEADLINE_EXCEEDED),
    (errors.Internal, grpc.StatusCode.INTERNAL, code_pb2.INTERNAL),
)
_BY_CODE: dict[grpc.StatusCode, type[MeshError]] = {code: cls for cls, code, _ in _CODES}
# Subclasses that share their parent's code are distinguished by their reason.
_BY_REASON: dict[str, type[MeshError]] = {
    cls.default_reason: cls for cls in (errors.IdempotencyKeyReused, errors.QuotaExceeded)
}
# The messages for users when a call fails without one of our own errors (connection refused, deadline, crash).
_TRANSPORT_MESSAGES = {
    grpc.StatusCode.UNAVAILABLE: "A part of the service is not reachable right now. Try again.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "The service did not answer in time.",
}
_RETRY_AFTER_UNAVAILABLE_S = 1.0
# "Received message larger than max (…)", "Sent message larger than max (…)".
_MESSAGE_TOO_LARGE = "message larger than max"
# Tells the caller's channel not to repeat the call (gRFC A6, "pushback"): the wait is longer than a channel's back-off,
# and an overloaded service would otherwise serve every refused call three times.
_NO_RETRY = ("grpc-retry-pushback-ms", "-1")


def to_status(error: MeshError) -> rpc_status._Status:
    """A status for `context.abort_with_status`."""
    code = next((wire for cls, _, wire in _CODES if isinstance(error, cls)), code_pb2.INTERNAL)
    details = [_packed(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))]
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    if error.fields:
        faults = [
            error_details_pb2.BadRequest.FieldViolation(field=fault.field, description=fault.message)
            for fault in error.fields
        ]
        details.append(_packed(error_details_pb2.BadRequest(field_violations=faults)))
    status = rpc_status.to_status(status_pb2.Status(code=code, message=error.message, details=details))
    if error.retry_after_s is None:
        return status
    return status._replace(trailing_metadata=(*status.trailing_metadata, _NO_RETRY))


def code_of(error: MeshError) -> grpc.StatusCode:
    return next((code for cls, code, _ in _CODES if isinstance(error, cls)), grpc.StatusCode.INTERNAL)


def from_rpc_error(error: grpc.aio.AioRpcError) -> MeshError:
    """The error that the callee raised, or the one for a failed transport."""
    status = _status_of(error)
    info = error_details_pb2.ErrorInfo()
    if status is None or not _unpacked(status, info) or info.domain != DOMAIN:
        return _transport_error(error)
    cls = _BY_REASON.get(info.reason) or _BY_CODE.get(error.code(), errors.Internal)
    return cls(status.message, reason=info.reason, retry_after_s=_retry_after_s(status), fields=_fields(status))


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None


def _transport_error(error: grpc.aio.AioRpcError) -> MeshError:
    code = error.code()
    cls = _BY_CODE.get(code, errors.Internal)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # gRPC uses one code for a message over the limit and for a server with too many concurrent calls.
        if _MESSAGE_TOO_LARGE in (error.details() or ""):
            return errors.TooLarge("The message is larger than services exchange.")
        cls, code = errors.Unavailable, grpc.StatusCode.UNAVAILABLE
    if cls is errors.Unavailable:
        return cls(_TRANSPORT_MESSAGES[code], retry_after_s=_RETRY_AFTER_UNAVAILABLE_S)
    if cls is errors.DeadlineExceeded:
        return cls(_TRANSPORT_MESSAGES[code])
    reason = UNIMPLEMENTED if code is grpc.StatusCode.UNIMPLEMENTED else None
    return errors.Internal("Something went wrong on our side.", reason=reason)


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo | error_details_pb2.BadRequest,
) -> any_pb2.Any:
    box = any_pb2.Any()
    box.Pack(message)
    return box


def _unpacked(
    status: status_pb2.Status,
    target: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo | error_details_pb2.BadRequest,
) -> bool:
    return any(detail.Is(target.DESCRIPTOR) and detail.Unpack(target) for detail in status.details)


def _retry_after_s(status: status_pb2.Status) -> float | None:
    info = error_details_pb2.RetryInfo()
    return info.retry_delay.ToMilliseconds() / 1000 if _unpacked(status, info) else None


def _fields(status: status_pb2.Status) -> tuple[FieldFault, ...]:
    bad_request = error_details_pb2.BadRequest()
    if not _unpacked(status, bad_request):
        return ()
    return tuple(FieldFault(fault.field, fault.description) for fault in bad_request.field_violations)
