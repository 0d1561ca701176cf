"""Entitlements and usage, over the real server."""

from datetime import UTC, datetime

import pytest
from mesh.auth.v1 import auth_pb2
from mesh_auth.tables import entitlement_overrides
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import InvalidInput, NotFound
from mesh_common.ids import UserId, new_id, parse_id
from sqlalchemy import insert
from support.auth import AuthUnderTest
from support.subjects import personal


@pytest.fixture
async def user_id(auth: AuthUnderTest) -> UserId:
    return UserId(parse_id((await auth.register()).id, "id"))


async def record(auth: AuthUnderTest, user_id: UserId, request: auth_pb2.RecordUsageRequest) -> None:
    await auth.agent.unary(auth.stub.RecordUsage, request, timeout_s=5, subject=personal(user_id))


async def usage_of(auth: AuthUnderTest, user_id: UserId, month: str | None = None) -> auth_pb2.GetUsageResponse:
    request = auth_pb2.GetUsageRequest(month=month)
    return await auth.gateway.unary(auth.stub.GetUsage, request, timeout_s=5, subject=personal(user_id))


async def entitlements_of(auth: AuthUnderTest, user_id: UserId) -> auth_pb2.Entitlements:
    request = auth_pb2.GetEntitlementsRequest()
    response = await auth.agent.unary(auth.stub.GetEntitlements, request, timeout_s=5, subject=personal(user_id))
    return response.entitlements


def some_run(*, model: str = "m", ended_at: datetime | None = None) -> auth_pb2.RecordUsageRequest:
    request = auth_pb2.RecordUsageRequest(
        run_id=str(new_id()), model=model, input_tokens=20, output_tokens=3, cost_micro_usd=7
    )
    request.ended_at.FromDatetime(ended_at or utc_now())
    return request


async def test_user_has_the_defaults_of_the_settings(auth: AuthUnderTest, user_id: UserId) -> None:
    entitlements = await entitlements_of(auth, user_id)

    assert entitlements.allowed_models.all
    assert list(entitlements.allowed_tools.names) == list(entitlements.tools) == ["calculate"]
    assert not entitlements.HasField("context_tokens")
    assert entitlements.monthly_tokens == 1000
    assert entitlements.used_tokens == 0


async def test_override_of_a_user_replaces_what_it_names(
    auth: AuthUnderTest, auth_database: Database, user_id: UserId
) -> None:
    async with auth_database.as_worker() as connection:
        await connection.execute(
            insert(entitlement_overrides).values(user_id=user_id, models=["small"], tools=[""], context_tokens=500)
        )

    entitlements = await entitlements_of(auth, user_id)

    assert list(entitlements.allowed_models.names) == list(entitlements.models) == ["small"]
    assert (entitlements.allowed_tools.all, list(entitlements.allowed_tools.names)) == (False, [])
    assert list(entitlements.tools) == [""]
    assert entitlements.context_tokens == 500
    assert entitlements.monthly_tokens == 1000


async def test_override_of_one_user_does_not_touch_another(
    auth: AuthUnderTest, auth_database: Database, user_id: UserId
) -> None:
    stranger = UserId(parse_id((await auth.register()).id, "id"))
    async with auth_database.as_worker() as connection:
        await connection.execute(insert(entitlement_overrides).values(user_id=stranger, monthly_tokens=1))

    assert (await entitlements_of(auth, user_id)).monthly_tokens == 1000


async def test_used_tokens_are_those_of_this_months_runs(auth: AuthUnderTest, user_id: UserId) -> None:
    await record(auth, user_id, some_run())
    await record(auth, user_id, some_run(model="other"))
    await record(auth, user_id, some_run(ended_at=datetime(2020, 1, 1, tzinfo=UTC)))

    assert (await entitlements_of(auth, user_id)).used_tokens == 46


async def test_entitlements_of_an_unknown_user_are_not_found(auth: AuthUnderTest) -> None:
    with pytest.raises(NotFound):
        await entitlements_of(auth, UserId(new_id()))


async def test_run_recorded_twice_counts_once(auth: AuthUnderTest, user_id: UserId) -> None:
    run = some_run()

    await record(auth, user_id, run)
    await record(auth, user_id, run)

    (entry,) = (await usage_of(auth, user_id)).models
    assert (entry.model, entry.runs, entry.input_tokens, entry.output_tokens, entry.cost_micro_usd) == (
        "m",
        1,
        20,
        3,
        7,
    )


async def test_usage_of_a_month_is_summed_by_model(auth: AuthUnderTest, user_id: UserId) -> None:
    for model, day in (("b", 1), ("a", 28), ("b", 29)):
        await record(auth, user_id, some_run(model=model, ended_at=datetime(2024, 2, day, tzinfo=UTC)))
    await record(auth, user_id, some_run(ended_at=datetime(2024, 3, 1, tzinfo=UTC)))

    usage = await usage_of(auth, user_id, "2024-02")

    assert usage.month == "2024-02"
    assert [(entry.model, entry.runs) for entry in usage.models] == [("a", 1), ("b", 2)]


async def test_usage_of_another_user_is_not_shown(auth: AuthUnderTest, user_id: UserId) -> None:
    stranger = UserId(parse_id((await auth.register()).id, "id"))
    await record(auth, user_id, some_run())

    assert list((await usage_of(auth, stranger)).models) == []


async def test_run_of_another_user_is_left_as_it_was(auth: AuthUnderTest, user_id: UserId) -> None:
    stranger = UserId(parse_id((await auth.register()).id, "id"))
    run = some_run()
    await record(auth, user_id, run)

    await record(auth, stranger, run)

    assert [entry.runs for entry in (await usage_of(auth, user_id)).models] == [1]
    assert list((await usage_of(auth, stranger)).models) == []


async def test_usage_of_an_unknown_user_is_not_recorded(auth: AuthUnderTest) -> None:
    with pytest.raises(NotFound):
        await record(auth, UserId(new_id()), some_run())


@pytest.mark.parametrize("month", ["", "2024", "2024-13", "2024-1", "0000-01", "9999-12", "2024-02-01"])
async def test_month_must_be_one(auth: AuthUnderTest, user_id: UserId, month: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await usage_of(auth, user_id, month)

    assert caught.value.fields[0].field == "month"
