"""Agents whose default assistant is a team, and messages that make models turn to its members."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from support.agent import AgentUnderTest, agent_settings, running_agent
from support.mesh import TestMesh
from support.tool_server import ToolServer

type TeamOpening = Callable[..., AbstractAsyncContextManager[AgentUnderTest]]
"""Opens an agent with these assistants. `effect` and `approval` are those of its tool `mark`."""
type Specs = Mapping[str, Mapping[str, Any]]

CLERK = {"description": "Leaves marks.", "instructions": "You are the clerk.", "tools": ["mark"]}
POET = {"description": "Writes.", "instructions": "You are the poet.", "tools": []}
SUPERVISOR: Specs = {
    "default": {"kind": "supervisor", "members": ["clerk", {"assistant": "poet", "description": "For rhymes."}]},
    "clerk": CLERK,
    "poet": POET,
}
HANDOFF: Specs = {"default": {"kind": "handoff", "members": ["clerk", "poet"]}, "clerk": CLERK, "poet": POET}


@asynccontextmanager
async def team_agent(
    mesh: TestMesh, model_url: str, folder: Path, tool: ToolServer, specs: Specs, **overrides: Any
) -> AsyncIterator[AgentUnderTest]:
    for name, spec in specs.items():
        # YAML contains JSON.
        (folder / f"{name}.yaml").write_text(json.dumps(spec))
    mark = tool.as_setting(overrides.pop("effect", "once"), approval=overrides.pop("approval", "never"))
    fakes = overrides.pop("fakes", {})
    settings = agent_settings(mesh, model_url, AGENT_ASSISTANTS_DIR=str(folder), AGENT_HTTP_TOOLS=mark, **overrides)
    async with running_agent(mesh, settings, **fakes) as agent:
        yield agent


def asks(member: str, task: str) -> str:
    """Makes the model give the member a task."""
    return f"[[sim:tool=ask_{member} {json.dumps({'task': task})}]]"


def marks(token: str = "t-1") -> str:  # noqa: S107 - no password
    """Makes the model call the tool, and say its result."""
    return f"[[sim:tool=mark {json.dumps({'token': token})}]] [[sim:reply=It says {{tool_result}}.]]"


def says(text: str) -> str:
    return f"[[sim:reply={text}]]"
