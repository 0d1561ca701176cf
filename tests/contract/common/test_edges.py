"""The table of edges matches the proto files, and the configured retries match both."""

import orjson
from google.protobuf.descriptor import ServiceDescriptor
from mesh.agent.v1 import agent_pb2
from mesh.auth.v1 import auth_pb2
from mesh.eval.v1 import eval_pb2
from mesh.jobs.v1 import jobs_pb2
from mesh.memory.v1 import memory_pb2
from mesh_common.grpc.client import _SERVICE_CONFIG
from mesh_common.grpc.edges import ALLOWED_CALLERS, SERVICES, SHARED_CALLERS

DESCRIPTORS: list[ServiceDescriptor] = [
    service
    for module in (agent_pb2, auth_pb2, eval_pb2, jobs_pb2, memory_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
RPCS = {f"/{service.full_name}/{method.name}" for service in DESCRIPTORS for method in service.methods}
# auth calls nobody.
EDGES = {
    "gateway": {"auth", "agent", "memory", "eval"},
    "agent": {"auth", "memory", "eval", "agent"},
}


def test_every_rpc_is_in_the_table_and_every_entry_is_an_rpc() -> None:
    assert set(ALLOWED_CALLERS) | set(SHARED_CALLERS) == RPCS


def test_every_rpc_has_a_caller_and_every_caller_is_a_service() -> None:
    tables = (ALLOWED_CALLERS, SHARED_CALLERS)

    assert all(callers and callers <= set(SERVICES) for table in tables for callers in table.values())


def test_these_services_call_each_other_and_no_others() -> None:
    called = {
        (caller, rpc.removeprefix("/mesh.").partition(".")[0])
        for rpc, callers in ALLOWED_CALLERS.items()
        for caller in callers
    }

    assert called == {(caller, callee) for caller, callees in EDGES.items() for callee in callees}


def test_requests_are_named_after_their_rpc() -> None:
    """ServiceCalls derives the names of spans and metrics from the request."""
    odd = [
        method.name
        for service in DESCRIPTORS
        for method in service.methods
        if method.input_type.name != f"{method.name}Request"
    ]

    assert not odd


def test_what_the_channel_retries_are_rpcs() -> None:
    configured = {
        f"/{name['service']}/{name['method']}"
        for method_config in orjson.loads(_SERVICE_CONFIG)["methodConfig"]
        for name in method_config["name"]
    }

    assert configured <= RPCS
    # They change state, and a second try cannot be distinguished from the first.
    assert not [rpc for rpc in configured if rpc.endswith(("/Register", "/Login", "/Refresh", "/CreateThread"))]
