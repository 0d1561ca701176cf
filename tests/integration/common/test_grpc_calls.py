"""Deadlines, cancellation, identity and traces between two services."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from mesh.agent.v1 import agent_pb2
from mesh.eval.v1 import eval_pb2
from mesh_common.caller import Caller, acting, current_subject, remaining_s, require_user
from mesh_common.errors import DeadlineExceeded, MeshError, PermissionDenied, Unauthenticated
from mesh_common.ids import UserId, new_id
from mesh_common.process.telemetry import tracer
from mesh_common.subject import Subject
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from support.grpc_echo import Echo
from support.spans import RecordedSpans
from support.subjects import elsewhere, personal, some_subject

LIST_SCORES = "mesh.eval.v1.EvalService/ListScores"


async def _list_scores(echo: Echo, *, timeout_s: float = 5.0, subject: Subject | None = None, **signed: str) -> None:
    calls = echo.calls("eval", **signed)
    await calls.unary(echo.evals.ListScores, eval_pb2.ListScoresRequest(), timeout_s=timeout_s, subject=subject)


async def test_the_subject_acted_for_arrives_whole(evals: Echo) -> None:
    seen: list[Subject | None] = []
    evals.script.unary = _record(lambda: seen.append(current_subject()))
    subject = replace(some_subject(), roles=frozenset({"owner"}), scopes=frozenset({"user", "admin"}))

    await _list_scores(evals, subject=subject)
    await _list_scores(evals)

    assert seen == [subject, None]


async def test_the_subject_of_the_call_being_served_is_passed_on(evals: Echo) -> None:
    seen: list[Subject | None] = []
    evals.script.unary = _record(lambda: seen.append(current_subject()))
    subject = elsewhere(some_subject())

    with acting(Caller("gateway", subject, None)):
        await _list_scores(evals)

    assert seen == [subject]


async def test_a_caller_of_release_0_1_0_acts_in_the_users_personal_organisation(evals: Echo) -> None:
    """Such a caller sends only the user."""
    seen: list[Subject | None] = []
    evals.script.unary = _record(lambda: seen.append(current_subject()))
    user_id = UserId(new_id())

    await _list_scores_with(evals, ("mesh-on-behalf-of", str(user_id)))

    assert seen == [personal(user_id)]


async def test_a_subject_alone_is_enough(evals: Echo) -> None:
    seen: list[Subject | None] = []
    evals.script.unary = _record(lambda: seen.append(current_subject()))
    subject = elsewhere(some_subject())

    await _list_scores_with(evals, ("mesh-subject", subject.as_text()))

    assert seen == [subject]


@pytest.mark.parametrize(
    "metadata",
    [
        (("mesh-subject", "{}"),),
        (("mesh-subject", "root"),),
        (("mesh-on-behalf-of", "00000000-0000-7000-8000-000000000001"), ("mesh-subject", some_subject().as_text())),
    ],
    ids=["no ids", "no JSON", "another user"],
)
async def test_a_subject_that_is_malformed_or_of_two_users_is_refused(
    evals: Echo, metadata: tuple[tuple[str, str], ...]
) -> None:
    evals.script.unary = _record(require_user)

    with pytest.raises(Unauthenticated) as raised:
        await _list_scores_with(evals, *metadata)

    assert raised.value.reason == "SUBJECT_INVALID"


async def _list_scores_with(evals: Echo, *metadata: tuple[str, str]) -> None:
    calls = evals.calls("eval")
    with calls._observed(eval_pb2.ListScoresRequest()):
        await evals.evals.ListScores(
            eval_pb2.ListScoresRequest(), timeout=5.0, metadata=(*calls._metadata({}, None), *metadata)
        )


async def test_a_call_for_nobody_is_refused_where_a_user_is_needed(evals: Echo) -> None:
    evals.script.unary = _record(require_user)

    with pytest.raises(Unauthenticated) as raised:
        await _list_scores(evals)

    assert raised.value.reason == "USER_REQUIRED"


async def test_a_service_without_the_edge_is_refused(evals: Echo) -> None:
    with pytest.raises(PermissionDenied) as raised:
        await _list_scores(evals, caller="memory")

    assert raised.value.reason == "EDGE_NOT_ALLOWED"


async def test_a_service_cannot_pass_for_another_with_its_own_key(evals: Echo) -> None:
    with pytest.raises(Unauthenticated):
        await _list_scores(evals, caller="gateway", key_of="memory")


async def test_a_token_for_another_service_is_refused(evals: Echo) -> None:
    calls = evals.calls("memory")

    with pytest.raises(Unauthenticated):
        await calls.unary(evals.evals.ListScores, eval_pb2.ListScoresRequest(), timeout_s=5.0)


@pytest.mark.parametrize("metadata", [(), (("authorization", "Basic eDp5"),), (("authorization", "Bearer "),)])
async def test_a_call_without_a_token_is_refused(evals: Echo, metadata: tuple[tuple[str, str], ...]) -> None:
    calls = evals.calls("eval")

    with pytest.raises(MeshError) as raised, calls._observed(eval_pb2.ListScoresRequest()):
        await evals.evals.ListScores(eval_pb2.ListScoresRequest(), timeout=5.0, metadata=metadata)

    assert raised.value.reason == "SERVICE_TOKEN_REQUIRED"


async def test_a_user_that_is_no_uuid_is_refused(evals: Echo) -> None:
    with pytest.raises(Unauthenticated):
        await _list_scores_with(evals, ("mesh-on-behalf-of", "root"))


async def test_the_deadline_is_passed_on_minus_a_margin(evals: Echo) -> None:
    seen: list[float] = []
    evals.script.unary = _record(lambda: seen.append(remaining_s(60.0)))

    await _list_scores(evals, timeout_s=2.0)

    assert 1.0 < seen[0] < 1.96


async def test_a_call_takes_no_longer_than_its_own_limit_though_the_caller_has_more_time(evals: Echo) -> None:
    seen: list[float] = []
    evals.script.unary = _record(lambda: seen.append(remaining_s(0.3)))

    await _list_scores(evals, timeout_s=5.0)

    assert seen == [0.3]


async def test_a_call_with_too_little_time_left_is_not_started(evals: Echo) -> None:
    was_called: list[int] = []
    evals.script.unary = _record(lambda: was_called.append(1))

    with pytest.raises(DeadlineExceeded), acting(Caller("gateway", None, asyncio.get_running_loop().time() + 0.004)):
        await _list_scores(evals)

    assert not was_called


async def test_a_callee_that_hangs_is_given_up_at_the_deadline_and_cancelled(evals: Echo) -> None:
    was_cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    evals.script.unary = hang

    with pytest.raises(DeadlineExceeded):
        await _list_scores(evals, timeout_s=0.1)

    await asyncio.wait_for(was_cancelled.wait(), 5)


async def test_leaving_a_stream_cancels_its_servicer(agents: Echo) -> None:
    agents.script.stream = asyncio.Event().wait

    async with agents.calls("agent").stream(
        agents.agents.FollowRun, agent_pb2.FollowRunRequest(), timeout_s=None
    ) as stream:
        async for response in stream:
            if response.event.seq == 3:
                break

    await asyncio.wait_for(agents.script.was_cancelled.wait(), 5)


async def test_leaving_a_stream_that_nobody_reads_cancels_its_servicer_without_noise(
    agents: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    agents.script.events, agents.script.event_bytes = 1_000, 500_000

    async with agents.calls("agent").stream(
        agents.agents.FollowRun, agent_pb2.FollowRunRequest(), timeout_s=None
    ) as stream:
        async for _ in stream:
            break

    await asyncio.wait_for(agents.script.was_cancelled.wait(), 5)
    assert agents.script.sent < 1_000
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_one_trace_goes_through_client_and_server(evals: Echo, spans: RecordedSpans) -> None:
    async def work() -> None:
        with tracer.start_as_current_span("work"):
            pass

    evals.script.unary = work

    with tracer.start_as_current_span("turn"):
        await _list_scores(evals)

    turn, inner = spans.named("turn"), spans.named("work")
    client, server = _by_kind(spans, SpanKind.CLIENT), _by_kind(spans, SpanKind.SERVER)
    assert [_parent(client), _parent(server), _parent(inner)] == [_id(turn), _id(client), _id(server)]
    assert len({span.context.trace_id for span in spans.all() if span.context}) == 1


async def test_one_trace_goes_through_a_stream(agents: Echo, spans: RecordedSpans) -> None:
    with tracer.start_as_current_span("turn"):
        async with agents.calls("agent").stream(
            agents.agents.FollowRun, agent_pb2.FollowRunRequest(), timeout_s=5.0
        ) as stream:
            received = [response async for response in stream]

    client, server = _by_kind(spans, SpanKind.CLIENT), _by_kind(spans, SpanKind.SERVER)
    assert len(received) == 3
    assert [_parent(client), _parent(server)] == [_id(spans.named("turn")), _id(client)]


def _record(action: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        action()

    return run


def _by_kind(spans: RecordedSpans, kind: SpanKind) -> ReadableSpan:
    (span,) = [span for span in spans.all() if span.kind is kind]
    return span


def _parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def _id(span: ReadableSpan) -> int:
    assert span.context
    return int(span.context.span_id)
