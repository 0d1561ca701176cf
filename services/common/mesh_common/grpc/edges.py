"""The allowed callers of each RPC. A call that is not listed is rejected.

The NetworkPolicies of the chart enforce the same for addresses.
"""

from typing import Final, Literal

ServiceName = Literal["gateway", "auth", "agent", "memory", "eval"]
SERVICES: Final[tuple[ServiceName, ...]] = ("gateway", "auth", "agent", "memory", "eval")

_GATEWAY: Final = frozenset({"gateway"})
_AGENT: Final = frozenset({"agent"})
_BOTH: Final = frozenset({"gateway", "agent"})

ALLOWED_CALLERS: Final[dict[str, frozenset[str]]] = {
    "/mesh.auth.v1.AuthService/Register": _GATEWAY,
    "/mesh.auth.v1.AuthService/Login": _GATEWAY,
    "/mesh.auth.v1.AuthService/Refresh": _GATEWAY,
    "/mesh.auth.v1.AuthService/Logout": _GATEWAY,
    "/mesh.auth.v1.AuthService/GetSigningKeys": _GATEWAY,
    "/mesh.auth.v1.AuthService/ListRevocations": _GATEWAY,
    "/mesh.auth.v1.AuthService/GetUser": _GATEWAY,
    "/mesh.auth.v1.AuthService/GetUsage": _GATEWAY,
    "/mesh.auth.v1.AuthService/CreateUser": _GATEWAY,
    "/mesh.auth.v1.AuthService/ListUsers": _GATEWAY,
    "/mesh.auth.v1.AuthService/ReadUser": _GATEWAY,
    "/mesh.auth.v1.AuthService/SetPassword": _GATEWAY,
    "/mesh.auth.v1.AuthService/DisableUser": _GATEWAY,
    "/mesh.auth.v1.AuthService/EnableUser": _GATEWAY,
    "/mesh.auth.v1.AuthService/GetEntitlements": _AGENT,
    "/mesh.auth.v1.AuthService/RecordUsage": _AGENT,
    "/mesh.auth.v1.AuthService/RecordUsageBatch": _AGENT,
    "/mesh.agent.v1.AgentService/StartRun": _GATEWAY,
    "/mesh.agent.v1.AgentService/FollowRun": _BOTH,
    "/mesh.agent.v1.AgentService/FollowStartedRuns": _GATEWAY,
    "/mesh.agent.v1.AgentService/CancelRun": _BOTH,
    "/mesh.agent.v1.AgentService/GetRun": _GATEWAY,
    "/mesh.agent.v1.AgentService/ListRuns": _GATEWAY,
    "/mesh.agent.v1.AgentService/CreateThread": _GATEWAY,
    "/mesh.agent.v1.AgentService/ForkThread": _GATEWAY,
    "/mesh.agent.v1.AgentService/GetThread": _GATEWAY,
    "/mesh.agent.v1.AgentService/ListThreads": _GATEWAY,
    "/mesh.agent.v1.AgentService/UpdateThread": _GATEWAY,
    "/mesh.agent.v1.AgentService/DeleteThread": _GATEWAY,
    "/mesh.agent.v1.AgentService/ListMessages": _GATEWAY,
    "/mesh.agent.v1.AgentService/ListModels": _GATEWAY,
    "/mesh.agent.v1.AgentService/ListInterrupts": _GATEWAY,
    "/mesh.agent.v1.AgentService/CreateAssistant": _GATEWAY,
    "/mesh.agent.v1.AgentService/GetAssistant": _GATEWAY,
    "/mesh.agent.v1.AgentService/ListAssistants": _GATEWAY,
    "/mesh.agent.v1.AgentService/UpdateAssistant": _GATEWAY,
    "/mesh.agent.v1.AgentService/DeleteAssistant": _GATEWAY,
    "/mesh.agent.v1.AgentService/ListAssistantVersions": _GATEWAY,
    "/mesh.agent.v1.AgentService/SetCurrentAssistantVersion": _GATEWAY,
    "/mesh.agent.v1.AgentService/SetAssistantDisabled": _GATEWAY,
    "/mesh.memory.v1.MemoryService/Recall": _AGENT,
    "/mesh.memory.v1.MemoryService/Remember": _AGENT,
    "/mesh.memory.v1.MemoryService/ForgetThread": _AGENT,
    "/mesh.memory.v1.MemoryService/CreateMemory": _BOTH,
    "/mesh.memory.v1.MemoryService/GetMemory": _GATEWAY,
    "/mesh.memory.v1.MemoryService/ListMemories": _GATEWAY,
    "/mesh.memory.v1.MemoryService/SearchMemories": _BOTH,
    "/mesh.memory.v1.MemoryService/UpdateMemory": _BOTH,
    "/mesh.memory.v1.MemoryService/DeleteMemory": _BOTH,
    "/mesh.memory.v1.MemoryService/DeleteAllMemories": _GATEWAY,
    "/mesh.eval.v1.EvalService/SubmitRun": _AGENT,
    "/mesh.eval.v1.EvalService/ListScores": _GATEWAY,
}

SHARED_CALLERS: Final[dict[str, frozenset[str]]] = {
    "/mesh.jobs.v1.DeadLetterService/ListDeadLetters": _GATEWAY,
    "/mesh.jobs.v1.DeadLetterService/SendDeadLetterAgain": _GATEWAY,
}
"""The same for the RPCs that agent, memory and eval all serve."""


def callers_of(method: str) -> frozenset[str]:
    return ALLOWED_CALLERS.get(method) or SHARED_CALLERS.get(method, frozenset())
