"""Single-use tickets in the URL that let a browser's EventSource, which cannot send headers, follow one run.

They are in Redis, because a ticket must work only once across all replicas: without Redis there are no tickets. URLs
end up in logs and histories, so a ticket is short-lived, consumed by its first use, and stored only under its hash.

A ticket carries a MAC, so that made-up ones are refused without asking Redis. What is stored carries another one, so
that whoever can write to Redis cannot give themselves a ticket of another user. Release 0.1.0 has neither, and other
names in Redis; during an upgrade each release refuses the tickets of the other.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import orjson
import structlog
from mesh_common.clock import Clock
from mesh_common.errors import Unauthenticated, Unavailable
from mesh_common.ids import RunId
from mesh_common.jwt import SigningKey
from mesh_common.redis import redis_call
from mesh_common.subject import parse_subject
from redis.asyncio import Redis

from mesh_gateway.identity.access_tokens import Principal
from mesh_gateway.identity.revocations import Revocations
from mesh_gateway.identity.seal import Seal

log = structlog.get_logger()

_TTL_S: Final = 60
# 20 random bytes cannot be guessed. A MAC of 12 bytes only has to be too rare to hit by chance.
_RANDOM_BYTES: Final = 20
_MAC_BYTES: Final = 12
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_PURPOSE: Final = b"mesh_gateway stream tickets 1"


@dataclass(frozen=True, slots=True)
class Ticket:
    secret: str
    expires_at: datetime


class StreamTickets:
    def __init__(self, redis: Redis, revocations: Revocations, clock: Clock, key: SigningKey) -> None:
        """`key` is the same on all replicas."""
        self._redis = redis
        self._revocations = revocations
        self._clock = clock
        self._mac_key = key.derived(_PURPOSE)
        self._seal = Seal(key, clock)

    async def issue(self, caller: Principal, run_id: RunId) -> Ticket:
        """A ticket for one use within a minute. The caller must have checked that the run is `caller`'s.

        Raises Unavailable without Redis.
        """
        secret = self._new_secret()
        try:
            value = self._seal.sealed(_key(secret), _content(caller, run_id), ttl_s=_TTL_S)
            await redis_call(self._redis.set(_key(secret), value, ex=_TTL_S))
        except Unavailable as error:
            raise _away() from error
        return Ticket(secret, self._clock.now() + timedelta(seconds=_TTL_S))

    def require_form(self, secret: str) -> None:
        """Raises Unauthenticated for what cannot be a ticket. Costs microseconds."""
        if not _FORM.fullmatch(secret):
            raise _refusal()

    async def take(self, secret: str, run_id: RunId) -> Principal:
        """The user to whom the ticket was issued. The ticket is consumed even if this raises.

        Raises Unauthenticated for a ticket that is unknown, used or expired, or that belongs to another run or to a
        session that was logged out; Unavailable without Redis.
        """
        self.require_form(secret)
        if not self._is_signed(secret):
            raise _refusal()
        try:
            # Read and deleted in one step, so that only one of two concurrent uses succeeds.
            value = await redis_call(self._redis.getdel(_key(secret)))
        except Unavailable as error:
            raise _away() from error
        if value is None:
            raise _refusal()
        content = self._seal.opened(_key(secret), value)
        if content is None:
            log.warning("ticket.refused")
            raise _refusal()
        fields = orjson.loads(content)
        if fields["run_id"] != str(run_id) or self._revocations.is_revoked(fields["session_id"]):
            raise _refusal()
        return Principal(
            subject=parse_subject(fields["subject"]),
            session_id=fields["session_id"],
            expires_at=datetime.fromisoformat(fields["expires_at"]),
        )

    def _new_secret(self) -> str:
        random = secrets.token_bytes(_RANDOM_BYTES)
        return base64.urlsafe_b64encode(random + self._mac(random)).rstrip(b"=").decode()

    def _is_signed(self, secret: str) -> bool:
        content = base64.urlsafe_b64decode(f"{secret}=")
        return hmac.compare_digest(content[_RANDOM_BYTES:], self._mac(content[:_RANDOM_BYTES]))

    def _mac(self, random: bytes) -> bytes:
        return hmac.digest(self._mac_key, random, hashlib.sha256)[:_MAC_BYTES]


def _key(secret: str) -> str:
    return f"mesh:gateway:sealed-ticket:{hashlib.sha256(secret.encode()).hexdigest()}"


def _content(caller: Principal, run_id: RunId) -> bytes:
    return orjson.dumps(
        {
            "run_id": str(run_id),
            "subject": caller.subject.as_text(),
            "session_id": caller.session_id,
            "expires_at": caller.expires_at.isoformat(),
        }
    )


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
