"""JSON logs on standard output: fixed event names, fields and the trace id; never a user's text or a token."""

import logging
import sys

import orjson
import structlog
from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger


def configure_logs(service: str, level: str) -> None:
    """Call it once, at the start of the process. Libraries' logs get the same format."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _with_trace,
        _with_service(service),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_to_json)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    _route_library_logs(shared)


def _route_library_logs(shared: list[structlog.typing.Processor]) -> None:
    handler = logging.StreamHandler(sys.stdout)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(_to_json),
        ],
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    # WARNING, because libraries log URLs, prompts and SQL parameters at INFO.
    root.setLevel(logging.WARNING)
    # It quotes what servers send, also at ERROR: results of tools.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)


def _with_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    return event


def _with_service(service: str) -> structlog.typing.Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _to_json(event: EventDict, **_: object) -> str:
    return orjson.dumps(event, default=str).decode()
