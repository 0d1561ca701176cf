from typing import Any

import grpc
from mesh.eval.v1 import eval_pb2, eval_pb2_grpc
from mesh_common.caller import require_subject
from mesh_common.ids import parse_id

from mesh_eval import convert
from mesh_eval.usecases import ListScores, SubmitRun

Context = grpc.aio.ServicerContext[Any, Any]


class EvalServicer(eval_pb2_grpc.EvalServiceServicer):
    def __init__(self, submit_run: SubmitRun, list_scores: ListScores) -> None:
        self._submit_run = submit_run
        self._list_scores = list_scores

    async def SubmitRun(self, request: eval_pb2.SubmitRunRequest, _context: Context) -> eval_pb2.SubmitRunResponse:
        await self._submit_run(require_subject(), convert.judged_run(request))
        return eval_pb2.SubmitRunResponse()

    async def ListScores(self, request: eval_pb2.ListScoresRequest, _context: Context) -> eval_pb2.ListScoresResponse:
        found = await self._list_scores(require_subject(), parse_id(request.run_id, "run_id"))
        return convert.scores_response(found)
