"""Calls about the dead letters of a running service, as the gateway makes them for an administrator."""

from collections.abc import Sequence

from mesh.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from mesh_common.grpc.client import open_channel
from mesh_common.grpc.edges import ServiceName
from mesh_common.subject import ADMIN, Subject

from support.mesh import TestMesh
from support.subjects import some_subject

_TIMEOUT_S = 10.0


async def listed(mesh: TestMesh, service: ServiceName, port: int, *, scope: str = ADMIN) -> Sequence[str]:
    """The ids of the last dead letters of the service on this port."""
    user = some_subject()
    subject = Subject(user.organisation_id, user.user_id, scopes=frozenset({scope}))
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = jobs_pb2_grpc.DeadLetterServiceStub(channel)
        request = jobs_pb2.ListDeadLettersRequest(limit=100)
        calls = mesh.calls_as("gateway", service)
        found = await calls.unary(stub.ListDeadLetters, request, timeout_s=_TIMEOUT_S, subject=subject)
    return [letter.id for letter in found.dead_letters]
