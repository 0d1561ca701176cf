"""Client of eval."""

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.eval.v1 import eval_pb2 as pb
from mesh.eval.v1 import eval_pb2_grpc
from mesh_common.grpc.client import ServiceCalls
from mesh_common.ids import RunId
from mesh_common.subject import Subject

from mesh_agent.domain.tools import ToolResult

_TIMEOUT_S = 5.0
# Limits of EvalService.SubmitRun.
_MAX_ITEMS = 50
_MAX_ANSWER_CHARS = 128_000


@dataclass(frozen=True, slots=True)
class EvalClient:
    calls: ServiceCalls
    stub: eval_pb2_grpc.EvalServiceStub

    async def submit_run(
        self,
        subject: Subject,
        run_id: RunId,
        *,
        message: str,
        answer: str,
        memories: Sequence[str],
        tool_results: Sequence[ToolResult],
        model: str,
    ) -> None:
        request = pb.SubmitRunRequest(
            run_id=str(run_id),
            input=message,
            answer=answer[:_MAX_ANSWER_CHARS],
            memories=memories[:_MAX_ITEMS],
            tool_results=[_tool_result(result) for result in tool_results[:_MAX_ITEMS]],
            model=model,
        )
        await self.calls.unary(self.stub.SubmitRun, request, timeout_s=_TIMEOUT_S, subject=subject)


def _tool_result(result: ToolResult) -> pb.ToolResult:
    return pb.ToolResult(tool=result.tool, arguments_json=result.arguments_json, content=result.content)
