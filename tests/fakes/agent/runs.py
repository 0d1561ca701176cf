"""The parts of a run, for tests that need any run."""

import math
from datetime import UTC, datetime
from typing import Any

from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.interrupts import InterruptKind, Question
from mesh_agent.domain.threads import Message, Role
from mesh_agent.events.log import EventLog
from mesh_agent.lease import HeldLease
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import Instructions, PlannedModel, RunPlan
from mesh_common.ids import RunId, ThreadId, new_id
from support.subjects import some_subject

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def a_claim(message: str = "hello", *, attempt: int = 1) -> Claim:
    return Claim(
        run_id=RunId(new_id()),
        thread_id=ThreadId(new_id()),
        subject=some_subject(),
        position=1,
        attempt=attempt,
        fence=1,
        message=message,
        model=None,
        trace_context={},
    )


def a_question(call_key: str = "1:0", **fields: Any) -> Question:
    return Question(call_key, InterruptKind.APPROVAL, fields.pop("call_id", "call_0"), "mark", "{}", **fields)


def an_owned_log(*, attempt: int = 1) -> EventLog:
    """The log of an attempt with a valid lease."""
    return EventLog(a_claim(attempt=attempt), HeldLease(math.inf, 6.0))


def a_model(
    name: str = "large",
    *,
    context_tokens: int = 8_000,
    max_output_tokens: int = 1_000,
    capabilities: tuple[str, ...] = ("tools",),
    base_url: str = "http://provider/v1",
) -> Model:
    """Costs one micro-dollar per token read and two per token written."""
    return Model(
        name=name,
        provider_model=f"provider-{name}",
        context_tokens=context_tokens,
        max_output_tokens=max_output_tokens,
        capabilities=frozenset(capabilities),
        input_usd_per_mtok=1.0,
        output_usd_per_mtok=2.0,
        base_url=base_url,
        api_key="key",
    )


def a_plan(*models: str, **fields: Any) -> RunPlan:
    """A plan with the named models; `large` if none is named."""
    planned = tuple(PlannedModel(name, 8_000, 1_000) for name in models or ("large",))
    return RunPlan(Instructions("Be brief.$memories", "$facts"), planned, **fields)


def said(role: Role, content: str) -> Message:
    return Message(new_id(), role, content, NOW, RunId(new_id()), is_partial=False)
