"""eval over gRPC."""

import grpc
from mesh.eval.v1 import eval_pb2, eval_pb2_grpc
from mesh_common.ids import RunId
from mesh_common.subject import Subject

from mesh_gateway import convert
from mesh_gateway.clients.backend import Backend
from mesh_gateway.clients.dead_letters import DeadLettersClient
from mesh_gateway.domain import Scores


class EvalClient:
    def __init__(self, backend: Backend, channel: grpc.aio.Channel) -> None:
        self._backend = backend
        self._stub = eval_pb2_grpc.EvalServiceStub(channel)
        self.dead_letters = DeadLettersClient(backend, channel)

    async def scores(self, subject: Subject, run_id: RunId) -> Scores:
        request = eval_pb2.ListScoresRequest(run_id=str(run_id))
        return convert.scores(await self._backend.unary(self._stub.ListScores, request, subject=subject))
