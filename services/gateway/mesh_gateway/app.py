"""The HTTP application: routes, middleware, errors, OpenAPI."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import Scope

from mesh_gateway.edge.connections import PROBES
from mesh_gateway.edge.cors import Cors
from mesh_gateway.edge.deps import Gateway
from mesh_gateway.edge.documents import DocumentLimits
from mesh_gateway.edge.errors import install_handlers
from mesh_gateway.edge.methods import EveryPathsMethods
from mesh_gateway.edge.observer import TRACE_ID_HEADER, LastCatch, RequestObserver
from mesh_gateway.edge.path_methods import PathMethods
from mesh_gateway.edge.request_limits import RequestBounds, RequestLimits
from mesh_gateway.protocols.native.events import event_schemas
from mesh_gateway.protocols.native.problems import ProblemDialect
from mesh_gateway.protocols.native.routes import (
    admin_jobs,
    assistants,
    auth,
    catalogue,
    chatbot,
    interrupts,
    memories,
    meta,
    runs,
    thread_runs,
    threads,
    users,
)
from mesh_gateway.protocols.native.routes.docs import complete
from mesh_gateway.protocols.native.schemas.common import Problem

_CORS_MAX_AGE_S = 600
# The error format by path prefix.
_DIALECTS = (("", ProblemDialect()),)
_DESCRIPTION = (
    "Every path also answers OPTIONS, and HEAD if it has GET. A method that a path does not have gets 405, and `Allow` "
    "names those it has."
)
_EXPOSED = (
    "Location",
    "Content-Location",
    "ETag",
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
    "WWW-Authenticate",
    TRACE_ID_HEADER,
)
_ALLOWED = (
    "Authorization",
    "Content-Type",
    "Last-Event-ID",
    "Idempotency-Key",
    "If-Match",
    "traceparent",
    "tracestate",
)


# In the order in which they are matched: the most frequent requests first.
_ROUTERS = tuple(
    module.router
    for module in (
        chatbot,
        thread_runs,
        runs,
        interrupts,
        threads,
        memories,
        auth,
        assistants,
        catalogue,
        users,
        admin_jobs,
        meta,
    )
)


def build_app(gateway: Gateway) -> FastAPI:
    methods = PathMethods()
    app = FastAPI(
        title="Agent Mesh",
        version=version("mesh-gateway"),
        summary="Chat with an agent that remembers.",
        description=_DESCRIPTION,
        # FastAPI's pages load scripts from other hosts; any viewer can read /openapi.json.
        docs_url=None,
        redoc_url=None,
        # A redirect would name the scheme and host that the gateway sees behind its proxies.
        redirect_slashes=False,
        middleware=_middleware(gateway, methods),
        generate_unique_id_function=_operation_id,
        # FastAPI makes the spans. Metrics go to Prometheus, and FastAPI's log records may contain users' text.
        telemetry={
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": _is_probe,
        },
    )
    app.state.gateway = gateway
    app.state.path_methods = methods
    install_handlers(app)
    methods.add(route for route in app.routes if isinstance(route, Route))
    for router in _ROUTERS:
        app.include_router(router)
        methods.add(route for route in router.routes if isinstance(route, Route))
    _describe(app)
    return app


def _middleware(gateway: Gateway, methods: PathMethods) -> list[Middleware]:
    settings = gateway.settings
    bounds = RequestBounds(
        max_body_bytes=settings.max_body_bytes,
        max_headers=settings.max_headers,
        max_header_bytes=settings.max_header_bytes,
        max_url_bytes=settings.max_url_bytes,
        body_timeout_s=settings.body_timeout_s,
        min_body_bytes_per_s=settings.min_body_bytes_per_s,
    )
    cors = Middleware(
        Cors,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=_ALLOWED,
        expose_headers=_EXPOSED,
        max_age=_CORS_MAX_AGE_S,
    )
    # The outermost first: every response is observed, and browsers can read all of them but refused preflights.
    return [
        Middleware(RequestObserver, dialects=_DIALECTS),
        cors,
        Middleware(LastCatch),
        Middleware(RequestLimits, bounds=bounds),
        Middleware(DocumentLimits, budget=gateway.documents, addresses=gateway.addresses),
        Middleware(EveryPathsMethods, methods=methods),
    ]


def _describe(app: FastAPI) -> None:
    """Adds to FastAPI's OpenAPI document the schemas that it cannot derive: those of problems and events."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if Problem.__name__ not in schemas:
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(problem.pop("$defs"))
            schemas[Problem.__name__] = problem
            schemas.update(event_schemas())
            complete(document)
        return document

    # FastAPI's documented way to extend the document is to replace this method.
    app.openapi = openapi  # type: ignore[method-assign]


def _operation_id(route: APIRoute) -> str:
    return route.name


def _is_probe(scope: Scope) -> bool:
    return scope["path"] in PROBES
