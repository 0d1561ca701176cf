"""The public keys that verify access tokens: fetched from auth, kept in memory and in Redis.

The copy in Redis lets a gateway restart while auth is unavailable. Every fetch overwrites it. It carries a MAC, and has
another name than in release 0.1.0, whose copy has none.
"""

import asyncio
from typing import Final, Protocol

import structlog
from mesh_common.clock import Clock
from mesh_common.errors import MeshError, Unavailable
from mesh_common.jwt import JWTVerifier, parse_jwks
from mesh_common.redis import redis_call
from redis.asyncio import Redis

from mesh_gateway.identity.seal import Seal

log = structlog.get_logger()

_REDIS_KEY: Final = "mesh:gateway:sealed-jwks"
# How long auth may be unavailable while gateways restart.
_REDIS_TTL_S: Final = 86_400
_PERIOD_S: Final = 60.0
_RETRY_S: Final = 2.0
# Tokens with invented key ids must not make the gateway call auth more often than this.
_UNKNOWN_KEY_PAUSE_S: Final = 5.0
# How long a request with an unknown key waits for the fetch it caused.
_UNKNOWN_KEY_WAIT_S: Final = 1.0


class KeySource(Protocol):
    async def signing_keys(self) -> str:
        """The JWKS document."""
        ...


class SigningKeys:
    def __init__(self, source: KeySource, redis: Redis, verifier: JWTVerifier, seal: Seal, clock: Clock) -> None:
        self._source = source
        self._redis = redis
        self._verifier = verifier
        self._seal = seal
        self._clock = clock
        self._document: str | None = None
        self._wanted = asyncio.Event()
        self._fetched = asyncio.Event()
        self._asked_at_s = float("-inf")
        self._is_current = False

    @property
    def is_known(self) -> bool:
        return self._document is not None

    def document(self) -> str:
        """The JWKS as JSON. Raises Unavailable while none is known."""
        if self._document is None:
            raise Unavailable("Tokens cannot be verified yet. Try again.", reason="SIGNING_KEYS_UNKNOWN")
        return self._document

    async def ask_for_newer(self) -> None:
        """Triggers a fetch and waits at most a second for it; does nothing if one was triggered a moment ago."""
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_at_s < _UNKNOWN_KEY_PAUSE_S:
            return
        self._asked_at_s = now_s
        self._fetched.clear()
        self._wanted.set()
        try:
            async with asyncio.timeout(_UNKNOWN_KEY_WAIT_S):
                await self._fetched.wait()
        except TimeoutError:
            return

    async def prepare(self) -> None:
        """Loads the keys once before the first request: the copy first, then auth."""
        await self._load_copy()
        await self._fetch()

    async def watch(self) -> None:
        """Fetches every minute, sooner after a failure, and on `ask_for_newer`; runs until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_PERIOD_S if self._is_current else _RETRY_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            await self._fetch()
            self._fetched.set()

    async def _fetch(self) -> None:
        try:
            document = await self._source.signing_keys()
            self._take(document)
        except (MeshError, ValueError) as error:
            self._is_current = False
            log.warning("signing_keys.not_fetched", error=type(error).__name__)
            return
        self._is_current = True
        await self._store_copy(document)

    def _take(self, document: str) -> None:
        self._verifier.replace_keys(parse_jwks(document))
        if document != self._document:
            log.info("signing_keys.changed")
        self._document = document

    async def _load_copy(self) -> None:
        try:
            copy = await redis_call(self._redis.get(_REDIS_KEY))
            if copy is None:
                return
            document = self._seal.opened(_REDIS_KEY, copy)
            if document is None:
                log.warning("signing_keys.copy_refused")
                return
            self._take(document.decode())
        except (Unavailable, ValueError) as error:
            log.warning("signing_keys.copy_not_read", error=type(error).__name__)

    async def _store_copy(self, document: str) -> None:
        try:
            value = self._seal.sealed(_REDIS_KEY, document.encode(), ttl_s=_REDIS_TTL_S)
            await redis_call(self._redis.set(_REDIS_KEY, value, ex=_REDIS_TTL_S))
        except Unavailable as error:
            log.warning("signing_keys.copy_not_written", reason=error.reason)
