# ruff: noqa: N802, ARG002 - methods are named and shaped by the generated servicer
"""eval as the gateway sees it: one judged and one failed score for every run."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.eval.v1 import eval_pb2, eval_pb2_grpc
from mesh_common.caller import require_user

_NOW = Timestamp(seconds=1_764_000_000)


class FakeEval(eval_pb2_grpc.EvalServiceServicer):
    async def ListScores(self, request: eval_pb2.ListScoresRequest, context: Any) -> eval_pb2.ListScoresResponse:
        require_user()
        judged = eval_pb2.Score(
            name="relevancy",
            status=eval_pb2.SCORE_STATUS_SUCCEEDED,
            value=0.0,
            reasoning="Off the point.",
            judge_model="sim",
            prompt_hash="ab",
            created_at=_NOW,
        )
        failed = eval_pb2.Score(name="toxicity", status=eval_pb2.SCORE_STATUS_FAILED, created_at=_NOW)
        return eval_pb2.ListScoresResponse(scores=[judged, failed], is_pending=False)

    async def SubmitRun(self, request: Any, context: Any) -> Any:
        raise NotImplementedError
