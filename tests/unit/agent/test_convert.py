"""Which requests are rejected, which field the error names, and how values are converted."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from fakes.agent.runs import NOW, a_model, said
from hypothesis import given
from hypothesis import strategies as st
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent import convert
from mesh_agent.domain.runs import Multitask, OnDisconnect, Run, RunError, RunInput, RunStatus, Usage
from mesh_agent.domain.threads import Role, Thread
from mesh_common.errors import InvalidInput
from mesh_common.ids import RunId, ThreadId, new_id

RUN, THREAD = RunId(new_id()), ThreadId(new_id())


def _start(**fields: Any) -> pb.StartRunRequest:
    return pb.StartRunRequest(**({"run_id": str(RUN), "message": "hello"} | fields))


def _faulty_field(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidInput) as caught:
        call()
    [fault] = caught.value.fields
    return fault.field


def test_a_bare_request_gets_the_defaults() -> None:
    assert convert.run_input(_start()) == RunInput(RUN, None, "hello")


def test_a_full_request_is_taken_whole() -> None:
    request = _start(
        thread_id=str(THREAD),
        model="large",
        metadata={"topic": "tea"},
        multitask=pb.MULTITASK_REJECT,
        on_disconnect=pb.ON_DISCONNECT_CANCEL,
        idempotency_key="key-1",
    )

    assert convert.run_input(request) == RunInput(
        RUN, THREAD, "hello", "large", {"topic": "tea"}, Multitask.REJECT, OnDisconnect.CANCEL, "key-1"
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"run_id": ""}, "run_id"),
        ({"run_id": "42"}, "run_id"),
        ({"run_id": RUN.hex}, "run_id"),
        ({"run_id": f"{{{RUN}}}"}, "run_id"),
        ({"thread_id": ""}, "thread_id"),
        ({"thread_id": f"{THREAD} "}, "thread_id"),
        ({"message": ""}, "message"),
        ({"message": " \n\t"}, "message"),
        ({"message": "x" * 32_001}, "message"),
        ({"message": "a\x00b"}, "message"),
        ({"metadata": {f"key{number}": "" for number in range(17)}}, "metadata"),
        ({"metadata": {"": "value"}}, "metadata"),
        ({"metadata": {"k" * 65: "value"}}, "metadata"),
        ({"metadata": {"k\x00": "value"}}, "metadata"),
        ({"metadata": {"topic": "v" * 513}}, "metadata.topic"),
        ({"metadata": {"topic": "\x00"}}, "metadata.topic"),
        ({"multitask": 99}, "multitask"),
        ({"on_disconnect": 9}, "on_disconnect"),
        ({"idempotency_key": ""}, "Idempotency-Key"),
        ({"idempotency_key": "k" * 256}, "Idempotency-Key"),
        ({"idempotency_key": "two words"}, "Idempotency-Key"),
        ({"idempotency_key": "schl\u00fcssel"}, "Idempotency-Key"),
        ({"idempotency_key": "a\x00"}, "Idempotency-Key"),
        ({"idempotency_key": "a\x7f"}, "Idempotency-Key"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(fields: dict[str, Any], field: str) -> None:
    assert _faulty_field(lambda: convert.run_input(_start(**fields))) == field


@pytest.mark.parametrize(
    "fields",
    [
        {"message": "x"},
        {"message": "x" * 32_000},
        {"message": "\U0001f375" * 32_000},
        {"message": " kept as it is \n"},
        {"metadata": {f"key{number}": "" for number in range(16)}},
        {"metadata": {"k" * 64: "v" * 512}},
        {"idempotency_key": "k" * 255},
        {"idempotency_key": "!~"},
    ],
)
def test_what_is_just_within_bounds_is_taken_unchanged(fields: dict[str, Any]) -> None:
    taken = convert.run_input(_start(**fields))

    assert {name: getattr(taken, name) for name in fields} == fields


@pytest.mark.parametrize(("value", "meant"), [(pb.MULTITASK_UNSPECIFIED, "enqueue"), (pb.MULTITASK_ENQUEUE, "enqueue")])
def test_a_strategy_that_is_not_named_is_to_wait(value: pb.Multitask.ValueType, meant: str) -> None:
    assert convert.run_input(_start(multitask=value)).multitask == meant


def test_every_choice_of_the_proto_is_known() -> None:
    for multitask in pb.Multitask.values():
        convert.run_input(_start(multitask=multitask))
    for on_disconnect in pb.OnDisconnect.values():
        convert.run_input(_start(on_disconnect=on_disconnect))


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_text_is_kept_as_it_is_or_refused(value: str) -> None:
    is_fine = bool(value.strip()) and len(value) <= 10 and "\x00" not in value

    if is_fine:
        assert convert.text(value, "title", max_chars=10, min_chars=1) == value
    else:
        assert _faulty_field(lambda: convert.text(value, "title", max_chars=10, min_chars=1)) == "title"


def test_a_title_may_be_empty() -> None:
    assert convert.text("", "title", max_chars=10) == ""


@pytest.mark.parametrize(("given", "meant"), [(0, 20), (1, 1), (100, 100)])
def test_limit(given: int, meant: int) -> None:
    assert convert.limit(given) == meant


@pytest.mark.parametrize("given", [101, 2**32 - 1])
def test_a_limit_above_a_hundred_is_refused(given: int) -> None:
    assert _faulty_field(lambda: convert.limit(given)) == "limit"


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001 - Hypothesis takes naive bounds
def test_a_timestamp_is_the_same_instant_to_the_microsecond(at: datetime) -> None:
    assert convert.timestamp(at).ToDatetime(tzinfo=UTC) == at


def test_a_timestamp_of_another_zone_is_the_same_instant() -> None:
    berlin = NOW.astimezone(timezone(timedelta(hours=1)))

    assert convert.timestamp(berlin) == convert.timestamp(NOW)


def test_a_thread_crosses_whole() -> None:
    thread = Thread(THREAD, "Tea", {"topic": "tea"}, NOW, NOW + timedelta(seconds=1))

    converted = convert.thread_pb(thread)

    assert (converted.id, converted.title, dict(converted.metadata)) == (str(THREAD), "Tea", {"topic": "tea"})
    assert converted.created_at.ToDatetime(tzinfo=UTC) == NOW
    assert converted.updated_at.ToDatetime(tzinfo=UTC) == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("role", "converted"),
    [
        (Role.USER, pb.MESSAGE_ROLE_USER),
        (Role.ASSISTANT, pb.MESSAGE_ROLE_ASSISTANT),
        (Role("narrator"), pb.MESSAGE_ROLE_UNSPECIFIED),
    ],
)
def test_a_message_crosses_whole(role: Role, converted: pb.MessageRole.ValueType) -> None:
    message = replace(said(role, "Tea?"), is_partial=True)

    assert convert.message_pb(message) == pb.Message(
        id=str(message.id),
        role=converted,
        content="Tea?",
        created_at=convert.timestamp(NOW),
        run_id=str(message.run_id),
        is_partial=True,
    )


def _run(status: RunStatus, **fields: Any) -> Run:
    blank: dict[str, Any] = dict.fromkeys(("started_at", "ended_at", "usage", "error", "finish_reason"))
    return Run(RUN, THREAD, status, 0, "large", NOW, metadata={}, **(blank | fields))


def test_what_a_pending_run_does_not_have_is_absent() -> None:
    converted = convert.run_pb(_run(RunStatus.PENDING))

    assert {field.name for field, _ in converted.ListFields()} == {"id", "thread_id", "status", "model", "created_at"}


def test_an_ended_run_crosses_whole() -> None:
    answer = said(Role.ASSISTANT, "Tea.")
    run = _run(
        RunStatus.FAILED,
        started_at=NOW,
        ended_at=NOW,
        usage=Usage(),
        error=RunError("MODEL_TIMEOUT", "Try again.", is_retryable=True),
        finish_reason="stop",
        message=answer,
    )

    converted = convert.run_pb(run)

    assert converted.HasField("usage")
    assert converted.error == pb.RunError(reason="MODEL_TIMEOUT", detail="Try again.", is_retryable=True)
    assert converted.message == convert.message_pb(answer)
    assert converted.finish_reason == "stop"


def test_every_status_has_its_word() -> None:
    converted = {convert.run_pb(_run(status)).status for status in RunStatus}

    assert converted == set(pb.RunStatus.values())


def test_status_that_a_newer_release_stored_is_told_as_none_of_ours_and_is_an_end() -> None:
    run = _run(RunStatus("paused"))

    assert convert.run_pb(run).status == pb.RUN_STATUS_UNSPECIFIED
    assert run.status.is_ended


def test_runs_are_not_listed_by_no_status() -> None:
    assert _faulty_field(lambda: convert.status(pb.RUN_STATUS_UNSPECIFIED)) == "status"


def test_prices_are_told_in_micro_dollars_a_million_tokens() -> None:
    model = replace(a_model(), input_usd_per_mtok=0.15, output_usd_per_mtok=2.5)

    converted = convert.model_pb(model)

    assert (converted.input_micro_usd_per_mtok, converted.output_micro_usd_per_mtok) == (150_000, 2_500_000)


def test_a_models_key_and_address_are_told_to_nobody() -> None:
    assert {field.name for field in pb.Model.DESCRIPTOR.fields}.isdisjoint({"api_key", "base_url", "provider_model"})
