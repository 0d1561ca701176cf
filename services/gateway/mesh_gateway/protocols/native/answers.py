"""Converts the gateway's domain objects to bodies of the native API."""

from collections.abc import Callable, Iterable
from typing import Final

import orjson
from mesh_common.events.model import Usage

from mesh_gateway import domain
from mesh_gateway.protocols.native.interrupts import shown
from mesh_gateway.protocols.native.schemas import (
    admin_jobs,
    assistants,
    auth,
    catalogue,
    memories,
    runs,
    threads,
    users,
)
from mesh_gateway.protocols.native.schemas.common import Page
from mesh_gateway.runs.answer import Answer

_MICRO: Final = 1_000_000


def page[T, A](show: Callable[[T], A], found: domain.Page[T]) -> Page[A]:
    return Page(items=[show(one) for one in found.items], next_cursor=found.next_cursor)


def thread(one: domain.Thread) -> threads.Thread:
    return threads.Thread(
        id=one.id,
        title=one.title,
        metadata=dict(one.metadata),
        created_at=one.created_at,
        updated_at=one.updated_at,
        assistant=one.assistant,
    )


def message(one: domain.Message) -> threads.Message:
    return threads.Message(
        id=one.id,
        role=one.role,
        content=one.content,
        created_at=one.created_at,
        run_id=one.run_id,
        is_partial=one.is_partial,
        agent=one.agent,
    )


def run(one: domain.Run) -> runs.Run:
    error = one.error
    return runs.Run(
        id=one.id,
        thread_id=one.thread_id,
        status=one.status,
        attempt=one.attempt,
        model=one.model,
        created_at=one.created_at,
        started_at=one.started_at,
        ended_at=one.ended_at,
        finish_reason=one.finish_reason,
        usage=_usage(one.usage) if one.usage else None,
        error=runs.RunFault(reason=error.reason, detail=error.detail, retryable=error.is_retryable) if error else None,
        message=message(one.message) if one.message else None,
        metadata=dict(one.metadata),
        resumes_run_id=one.resumes_run_id,
        assistant=one.assistant,
        assistant_version=one.assistant_version,
        interrupts=[shown(interrupt) for interrupt in one.interrupts],
        usage_by_agent={name: _usage(usage) for name, usage in one.usage_by_agent.items()},
    )


def assistant(one: domain.Assistant) -> assistants.Assistant:
    spec = orjson.loads(one.spec_json)
    spec.pop("name", None)
    return assistants.Assistant(
        name=one.name,
        version=one.version,
        is_current=one.is_current,
        source=one.source,
        visibility=one.visibility,
        is_disabled=one.is_disabled,
        spec=spec,
        created_at=one.created_at,
        created_by=one.created_by,
    )


def chat_answer(one: Answer) -> runs.ChatAnswer:
    return runs.ChatAnswer(
        run_id=one.run_id,
        thread_id=one.thread_id,
        message=runs.AnswerMessage(id=one.message_id, content=one.content, parsed=one.parsed),
        finish_reason=one.finish_reason,
        usage=_usage(one.usage),
        memories=[
            runs.RecalledMemory(id=memory.id, text=memory.text, similarity=memory.similarity) for memory in one.memories
        ],
        is_memory_unavailable=one.is_memory_unavailable,
        interrupts=[shown(interrupt) for interrupt in one.interrupts],
    )


def memory(one: domain.Memory) -> memories.Memory:
    return memories.Memory(
        id=one.id,
        text=one.text,
        origin=one.origin,
        created_at=one.created_at,
        updated_at=one.updated_at,
        run_id=one.run_id,
        similarity=one.similarity,
    )


def tokens(one: domain.Tokens) -> auth.Tokens:
    return auth.Tokens(access_token=one.access_token, expires_in=one.expires_in_s, refresh_token=one.refresh_token)


def user(one: domain.User) -> auth.User:
    return auth.User(id=one.id, email=one.email, created_at=one.created_at, is_admin=one.is_admin)


def account(one: domain.User) -> users.Account:
    return users.Account(**user(one).model_dump(), disabled_at=one.disabled_at)


def models(found: Iterable[domain.Model]) -> catalogue.Models:
    return catalogue.Models(
        items=[
            catalogue.Model(
                name=one.name,
                context_tokens=one.context_tokens,
                capabilities=one.capabilities,
                input_usd_per_mtok=one.input_micro_usd_per_mtok / _MICRO,
                output_usd_per_mtok=one.output_micro_usd_per_mtok / _MICRO,
            )
            for one in found
        ]
    )


def month_usage(one: domain.MonthUsage) -> catalogue.MonthUsage:
    return catalogue.MonthUsage(
        month=one.month,
        items=[
            catalogue.ModelUsage(
                model=model.model,
                runs=model.runs,
                input_tokens=model.usage.input_tokens,
                output_tokens=model.usage.output_tokens,
                cost_usd=model.usage.cost_micro_usd / _MICRO,
            )
            for model in one.models
        ],
    )


def scores(found: domain.Scores) -> catalogue.Scores:
    return catalogue.Scores(
        items=[
            catalogue.Score(
                name=one.name,
                status=one.status,
                value=one.value,
                reasoning=one.reasoning,
                judge_model=one.judge_model,
                prompt_hash=one.prompt_hash,
                created_at=one.created_at,
            )
            for one in found.items
        ],
        is_pending=found.is_pending,
    )


def _usage(usage: Usage) -> runs.Usage:
    return runs.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost_micro_usd / _MICRO,
    )


def dead_letter(one: domain.DeadLetter) -> admin_jobs.DeadLetter:
    return admin_jobs.DeadLetter(
        id=one.id,
        kind=one.kind,
        user_id=one.user_id,
        reason=one.reason,
        queued_at=one.queued_at,
        failed_at=one.failed_at,
    )
