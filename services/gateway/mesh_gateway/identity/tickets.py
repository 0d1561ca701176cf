"""Single-use tickets in the URL that let a browser's EventSource, which cannot send headers, follow one run.

They are in Redis, because a ticket must work only once across all replicas: without Redis there are no tickets. URLs
end up in logs and histories, so a ticket is short-lived, consumed by its first use, and stored only under its hash.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from mesh_common.clock import Clock
from mesh_common.errors import Unauthenticated, Unavailable
from mesh_common.ids import RunId, UserId
from mesh_common.redis import redis_call
from mesh_common.subject import Subject, parse_subject
from redis.asyncio import Redis

from mesh_gateway.identity.access_tokens import Principal
from mesh_gateway.identity.revocations import Revocations

_TTL_S: Final = 60
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Ticket:
    secret: str
    expires_at: datetime


class StreamTickets:
    def __init__(self, redis: Redis, revocations: Revocations, clock: Clock) -> None:
        self._redis = redis
        self._revocations = revocations
        self._clock = clock

    async def issue(self, caller: Principal, run_id: RunId) -> Ticket:
        """A ticket for one use within a minute. The caller must have checked that the run is `caller`'s.

        Raises Unavailable without Redis.
        """
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        try:
            await redis_call(self._redis.set(_key(secret), _content(caller, run_id), ex=_TTL_S))
        except Unavailable as error:
            raise _away() from error
        return Ticket(secret, self._clock.now() + timedelta(seconds=_TTL_S))

    async def take(self, secret: str, run_id: RunId) -> Principal:
        """The user to whom the ticket was issued. The ticket is consumed even if this raises.

        Raises Unauthenticated for a ticket that is unknown, used or expired, or that belongs to another run or to a
        session that was logged out; Unavailable without Redis.
        """
        try:
            # Read and deleted in one step, so that only one of two concurrent uses succeeds.
            content = await redis_call(self._redis.getdel(_key(secret)))
        except Unavailable as error:
            raise _away() from error
        if content is None:
            raise _refusal()
        fields = orjson.loads(content)
        if fields["run_id"] != str(run_id) or self._revocations.is_revoked(fields["session_id"]):
            raise _refusal()
        return Principal(
            subject=_subject(fields),
            session_id=fields["session_id"],
            expires_at=datetime.fromisoformat(fields["expires_at"]),
        )


def _key(secret: str) -> str:
    return f"mesh:gateway:ticket:{hashlib.sha256(secret.encode()).hexdigest()}"


def _content(caller: Principal, run_id: RunId) -> bytes:
    return orjson.dumps(
        {
            "run_id": str(run_id),
            # The user alone is what release 0.1.0 reads.
            "user_id": str(caller.user_id),
            "subject": caller.subject.as_text(),
            "session_id": caller.session_id,
            "expires_at": caller.expires_at.isoformat(),
        }
    )


def _subject(fields: Mapping[str, Any]) -> Subject:
    if "subject" in fields:
        return parse_subject(fields["subject"])
    return Subject.personal(UserId(UUID(fields["user_id"])))


def _refusal() -> Unauthenticated:
    return Unauthenticated(
        "The ticket is used, expired or for another run. Ask for a new one.", reason="INVALID_TICKET"
    )


def _away() -> Unavailable:
    return Unavailable(
        "Tickets are unavailable right now. Follow with an access token, or try again.",
        reason="TICKETS_UNAVAILABLE",
        retry_after_s=5,
    )
