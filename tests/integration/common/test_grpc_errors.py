"""Errors between two services, through the real server, boundary and client code."""

from collections.abc import Iterator

import pytest
from mesh.agent.v1 import agent_pb2
from mesh.eval.v1 import eval_pb2
from mesh_admin.secrets import SecretSet
from mesh_common import errors
from mesh_common.errors import FieldFault, MeshError
from mesh_common.grpc.client import open_channel
from mesh_common.grpc.error_wire import UNIMPLEMENTED
from support.grpc_echo import Echo, open_echo
from support.net import free_port


def _tree(cls: type[MeshError]) -> Iterator[type[MeshError]]:
    for child in cls.__subclasses__():
        yield child
        yield from _tree(child)


CLASSES = [cls for cls in _tree(MeshError) if cls.__module__ == errors.__name__]


async def _list_scores(echo: Echo, timeout_s: float = 5.0) -> eval_pb2.ListScoresResponse:
    answer: eval_pb2.ListScoresResponse = await echo.calls("eval").unary(
        echo.evals.ListScores, eval_pb2.ListScoresRequest(), timeout_s=timeout_s
    )
    return answer


async def _follow_run(echo: Echo, seen: list[int]) -> None:
    """Adds the seq of each event to `seen`."""
    request = agent_pb2.FollowRunRequest()
    async with echo.calls("agent").stream(echo.agents.FollowRun, request, timeout_s=5.0) as stream:
        async for response in stream:
            seen.append(response.event.seq)  # noqa: PERF401 - keeps the events before an error


def test_the_tree_is_the_one_of_the_design() -> None:
    assert len(CLASSES) == 14


@pytest.mark.parametrize("cls", CLASSES)
async def test_an_error_arrives_as_the_type_it_was_raised_as(evals: Echo, cls: type[MeshError]) -> None:
    async def fail() -> None:
        faults = (FieldFault("metadata.key", "is too long"), FieldFault("이름", "이 비었다"))
        raise cls("Mach's anders, 다시.", retry_after_s=1.5, fields=faults)

    evals.script.unary = fail

    with pytest.raises(MeshError) as raised:
        await _list_scores(evals)

    assert type(raised.value) is cls
    assert raised.value.message == "Mach's anders, 다시."
    assert raised.value.reason == cls.default_reason
    assert raised.value.retry_after_s == 1.5
    assert raised.value.fields == (FieldFault("metadata.key", "is too long"), FieldFault("이름", "이 비었다"))


async def test_a_reason_of_its_own_and_absent_parts_arrive_as_they_are(evals: Echo) -> None:
    async def fail() -> None:
        raise errors.Conflict("Busy.", reason="THREAD_BUSY")

    evals.script.unary = fail

    with pytest.raises(errors.Conflict) as raised:
        await _list_scores(evals)

    assert raised.value.reason == "THREAD_BUSY"
    assert raised.value.retry_after_s is None
    assert raised.value.fields == ()


async def test_the_text_of_an_unknown_error_never_leaves_the_process(evals: Echo) -> None:
    async def fail() -> None:
        raise RuntimeError("postgresql://user:password@host")

    evals.script.unary = fail

    with pytest.raises(errors.Internal) as raised:
        await _list_scores(evals)

    assert "password" not in repr(raised.value.__cause__)
    assert raised.value.message == "Something went wrong on our side."


async def test_an_error_in_mid_stream_arrives_after_what_was_sent(agents: Echo) -> None:
    async def fail() -> None:
        raise errors.QuotaExceeded("Used up.", retry_after_s=60)

    agents.script.stream = fail
    seen: list[int] = []

    with pytest.raises(errors.QuotaExceeded) as raised:
        await _follow_run(agents, seen)

    assert seen == [1, 2, 3]
    assert raised.value.retry_after_s == 60


async def test_an_unknown_error_in_mid_stream_is_internal(agents: Echo) -> None:
    async def fail() -> None:
        raise RuntimeError("secret")

    agents.script.stream = fail

    with pytest.raises(errors.Internal, match="Something went wrong"):
        await _follow_run(agents, [])


async def test_a_stream_without_an_error_ends(agents: Echo) -> None:
    seen: list[int] = []

    await _follow_run(agents, seen)

    assert seen == [1, 2, 3]


async def test_nobody_at_the_other_end_is_unavailable_with_a_wait(secrets: SecretSet) -> None:
    async with open_echo(secrets, service="eval") as echo, open_channel(f"127.0.0.1:{free_port()}") as channel:
        method = channel.unary_unary(
            "/mesh.eval.v1.EvalService/ListScores",
            request_serializer=eval_pb2.ListScoresRequest.SerializeToString,
            response_deserializer=eval_pb2.ListScoresResponse.FromString,
        )
        with pytest.raises(errors.Unavailable) as raised:
            await echo.calls("eval").unary(method, eval_pb2.ListScoresRequest(), timeout_s=5.0)

    assert raised.value.retry_after_s == 1.0


async def test_a_call_that_the_release_before_does_not_know_has_a_reason_of_its_own(secrets: SecretSet) -> None:
    async with open_echo(secrets, service="eval") as echo, open_channel(f"127.0.0.1:{echo.port}") as channel:
        method = channel.unary_unary(
            "/mesh.eval.v1.EvalService/ListNovelties",
            request_serializer=eval_pb2.ListScoresRequest.SerializeToString,
            response_deserializer=eval_pb2.ListScoresResponse.FromString,
        )
        with pytest.raises(errors.Internal) as raised:
            await echo.calls("eval").unary(method, eval_pb2.ListScoresRequest(), timeout_s=5.0)

    assert raised.value.reason == UNIMPLEMENTED


async def test_a_message_over_the_limit_is_too_large(evals: Echo) -> None:
    request = eval_pb2.ListScoresRequest(run_id="x" * 5_000_000)

    with pytest.raises(errors.TooLarge):
        await evals.calls("eval").unary(evals.evals.ListScores, request, timeout_s=5.0)


async def test_a_server_that_is_full_is_unavailable_and_not_a_fault_of_the_message(secrets: SecretSet) -> None:
    async with open_echo(secrets, service="eval", max_concurrent_rpcs=1) as echo:
        errors_seen: list[MeshError] = []

        async def call_again() -> None:
            echo.script.unary = _nothing
            try:
                await _list_scores(echo)
            except MeshError as error:
                errors_seen.append(error)

        echo.script.unary = call_again
        await _list_scores(echo)

    assert [type(error) for error in errors_seen] == [errors.Unavailable]
    assert errors_seen[0].retry_after_s == 1.0


async def _nothing() -> None:
    return
