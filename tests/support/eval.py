"""The eval service for tests: sample runs and scores, its settings, and calls to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from mesh.eval.v1 import eval_pb2, eval_pb2_grpc
from mesh_common.clock import utc_now
from mesh_common.grpc.client import open_channel
from mesh_common.grpc.edges import ServiceName
from mesh_common.ids import UserId, new_id
from mesh_common.subject import Subject
from mesh_eval.bootstrap import open_service
from mesh_eval.domain import JudgedRun, Score, ScoreStatus, ToolResult
from mesh_eval.settings import EvalSettings

from support.mesh import TestMesh
from support.net import free_port
from support.subjects import personal

VERDICT = '{"reasoning": "It says what was asked.", "score": 0.5}'


def new_subject() -> Subject:
    return personal(UserId(new_id()))


def some_run(**changes: Any) -> JudgedRun:
    run = JudgedRun(
        id=new_id(),
        message="Where do I live?",
        answer="You live in Busan.",
        memories=("The user lives in Busan.",),
        tool_results=(ToolResult("current_time", "{}", "2026-11-24T10:00:00Z"),),
        model="some-model",
    )
    return replace(run, **changes)


def some_score(name: str = "toxicity", **changes: Any) -> Score:
    score = Score(
        name=name,
        status=ScoreStatus.SUCCEEDED,
        value=0.25,
        reasoning="Harmless.",
        judge_model="some-judge",
        prompt_hash="a" * 64,
        created_at=utc_now(),
        trace_id="b" * 32,
    )
    return replace(score, **changes)


def submission(**changes: Any) -> eval_pb2.SubmitRunRequest:
    """With a unique answer."""
    answer = f"In Busan, house {new_id()}."
    fields = {"run_id": str(new_id()), "input": "Where do I live?", "answer": answer, "model": "some-model"}
    return eval_pb2.SubmitRunRequest(**(fields | changes))


def eval_settings(test_mesh: TestMesh, model_url: str, **overrides: Any) -> EvalSettings:
    """Settings of a service whose judge is the simulator at `model_url`."""
    environment = test_mesh.environment("eval")
    values: dict[str, Any] = {name.removeprefix("EVAL_").lower(): value for name, value in environment.items()}
    values |= {
        "grpc_port": free_port(),
        "drain_s": 2.0,
        "database_pool_size": 5,
        "openai_base_url": f"{model_url}/v1",
        "judge_model": "sim-small",
    }
    return EvalSettings(**(values | overrides))


@dataclass(frozen=True)
class EvalClient:
    """Calls as the service that may make them: SubmitRun as the agent, ListScores as the gateway."""

    stub: Any
    test_mesh: TestMesh

    async def submit(
        self, subject: Subject | None, request: eval_pb2.SubmitRunRequest, *, caller: ServiceName = "agent"
    ) -> None:
        calls = self.test_mesh.calls_as(caller, "eval")
        await calls.unary(self.stub.SubmitRun, request, timeout_s=10.0, subject=subject)

    async def scores(self, subject: Subject | None, run_id: UUID | str) -> eval_pb2.ListScoresResponse:
        calls = self.test_mesh.calls_as("gateway", "eval")
        request = eval_pb2.ListScoresRequest(run_id=str(run_id))
        answer: eval_pb2.ListScoresResponse = await calls.unary(
            self.stub.ListScores, request, timeout_s=10.0, subject=subject
        )
        return answer

    async def judged(self, subject: Subject, run_id: UUID | str) -> list[eval_pb2.Score]:
        """Polls until the scores are there, as a client would."""
        async with asyncio.timeout(30):
            while not (found := await self.scores(subject, run_id)).scores:
                pass
        return list(found.scores)


@asynccontextmanager
async def open_eval(test_mesh: TestMesh, settings: EvalSettings) -> AsyncIterator[EvalClient]:
    """The real service, and its client."""
    async with open_service(settings) as drain, open_channel(f"127.0.0.1:{settings.grpc_port}") as channel:
        yield EvalClient(eval_pb2_grpc.EvalServiceStub(channel), test_mesh)
        await drain()
