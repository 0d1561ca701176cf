"""Interrupted runs: the agent with a tool that needs approval, and resumes over gRPC."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.database.postgres import Database
from mesh_common.ids import UserId, new_id
from mesh_common.subject import Subject
from sqlalchemy import text

from support.agent import AgentUnderTest, Followed, agent_settings, running_agent
from support.mesh import TestMesh
from support.subjects import personal
from support.tool_server import ToolServer

MARK = '[[sim:tool=mark {"token": "t-1"}]] [[sim:reply=It says {tool_result}.]]'
APPROVE, EDIT = pb.DECISION_KIND_APPROVE, pb.DECISION_KIND_EDIT
REJECT, ANSWER = pb.DECISION_KIND_REJECT, pb.DECISION_KIND_ANSWER


@asynccontextmanager
async def guarding_agent(
    mesh: TestMesh, model_url: str, tool: ToolServer, *, effect: str = "once", **overrides: Any
) -> AsyncIterator[AgentUnderTest]:
    """An agent whose tool `mark` needs approval."""
    fakes = overrides.pop("fakes", {})
    settings = agent_settings(mesh, model_url, AGENT_HTTP_TOOLS=tool.as_setting(effect, approval="always"), **overrides)
    async with running_agent(mesh, settings, **fakes) as agent:
        yield agent


def decision(
    call_id: str, kind: "pb.DecisionKind.ValueType" = APPROVE, *, value: object = None, message: str = ""
) -> pb.Decision:
    value_json = "" if value is None else orjson.dumps(value).decode()
    return pb.Decision(call_id=call_id, kind=kind, value_json=value_json, message=message)


def resume_request(run_id: str, *decisions: pb.Decision, **fields: Any) -> pb.StartRunRequest:
    return pb.StartRunRequest(
        **{"run_id": str(new_id())} | fields, resume=pb.Resume(run_id=run_id, decisions=decisions)
    )


async def resume(agent: AgentUnderTest, user: UserId | Subject, request: pb.StartRunRequest) -> Followed:
    """Resumes and follows the new run to its end."""
    subject = user if isinstance(user, Subject) else personal(user)
    async with agent.calls.stream(agent.stub.StartRun, request, timeout_s=20, subject=subject) as stream:
        metadata = await stream.initial_metadata()
        events = [response.event async for response in stream]
    return Followed(metadata.get("mesh-run-id", ""), metadata.get("mesh-thread-id", ""), events)


def asked(turn: Followed) -> list[pb.Interrupt]:
    """What an interrupted run asks, by its last event."""
    return list(turn.last.run_interrupted.interrupts)


async def interrupts(agent: AgentUnderTest, user: UserId | Subject, **fields: Any) -> pb.ListInterruptsResponse:
    subject = user if isinstance(user, Subject) else personal(user)
    request = pb.ListInterruptsRequest(**fields)
    return await agent.calls.unary(agent.stub.ListInterrupts, request, timeout_s=5, subject=subject)


async def stored(database: Database, execution_id: str) -> int:
    """Rows of the execution's checkpoints, and of records of calls. An execution has the id of its first run."""
    async with database.as_worker() as connection:
        return int((await connection.execute(_STORED, {"id": execution_id})).scalar_one())


_STORED = text("""
    SELECT (SELECT count(*) FROM agent.checkpoints WHERE thread_id = :id)
         + (SELECT count(*) FROM agent.checkpoint_writes WHERE thread_id = :id)
         + (SELECT count(*) FROM agent.checkpoint_blobs WHERE thread_id = :id)
         + (SELECT count(*) FROM agent.once_calls)
""")
