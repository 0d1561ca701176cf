"""Rows that tests add to the stores of auth."""

from datetime import UTC, datetime

from mesh_auth.domain import RunUsage, User
from mesh_auth.ports import AuthDatabase
from mesh_common.ids import RunId, UserId, new_id

from support.auth import some_email

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HASH = "hash"


async def make_user(database: AuthDatabase, *, password_hash: str = HASH) -> User:
    user = User(UserId(new_id()), some_email(), NOW)
    async with database.as_subject(user.subject) as store:
        assert await store.add_user(user, email_key=user.email, password_hash=password_hash)
    return user


def some_usage(*, model: str = "m", ended_at: datetime = NOW, tokens: int = 1) -> RunUsage:
    return RunUsage(RunId(new_id()), model, tokens, 10 * tokens, 100 * tokens, ended_at)
