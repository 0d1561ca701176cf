"""Limits failed logins: by account and client address, and by account alone (docs/adr/0027).

A login is pending until its password has been checked. Pending ones and failures together never exceed a limit, so
parallel tries cannot pass it together, and a refused one costs no hash. Names without an account are treated alike, by
the same statements, so that an answer does not tell whether there is an account.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from mesh_common.clock import Clock
from mesh_common.errors import RateLimited
from mesh_common.ids import UserId
from mesh_common.subject import Subject

from mesh_auth.domain import LoginFailures, LoginName, LoginPolicy, User
from mesh_auth.logins import policy
from mesh_auth.logins.keyed_hash import KeyedHashes
from mesh_auth.logins.queue import TooManyPending
from mesh_auth.metrics import LOGINS
from mesh_auth.ports import AuthStore

# A name without an account has no addresses. The store is asked all the same, about this user, who does not exist.
_NOBODY: Final = UserId(UUID(int=0))


@dataclass(frozen=True, slots=True)
class Admission:
    """A login that may be tried. `counted` are the keys under which it is pending since `begun_at`."""

    account_key: bytes
    address_key: bytes | None
    client_address: str | None
    counted: tuple[bytes, ...]
    begun_at: datetime


class LoginGuard:
    def __init__(self, limits: LoginPolicy, hashes: KeyedHashes, clock: Clock) -> None:
        self._limits = limits
        self._hashes = hashes
        self._clock = clock

    async def admit(
        self, store: AuthStore, name: LoginName, user: User | None, client_address: str | None
    ) -> Admission:
        """Counts the login as pending. Raises RateLimited if it has to wait, and TooManyPending if that depends on how
        others end; then nothing is counted.

        `client_address` is None if the caller does not know it: such logins are limited by account alone.
        """
        account = f"user {user.id}" if user else f"name {name.canonical}"
        account_key = self._hashes.of("account", account)
        address_key = self._hashes.of("address", account, client_address) if client_address else None
        is_known = await self._is_known(store, user.id if user else _NOBODY, client_address)
        keys = [key for key in (address_key, account_key) if key]
        # Without the lock first: while an account is under attack, most tries end here and nobody queues for it.
        self._decide(await store.find_login_failures(keys), account_key, address_key, is_known=is_known)
        await store.lock_login(account_key)
        found = await store.find_login_failures(keys)
        counted = self._decide(found, account_key, address_key, is_known=is_known)
        now = self._clock.now()
        await store.put_login_failures({key: failures.begun(now) for key, failures in counted.items()})
        return Admission(account_key, address_key, client_address, tuple(counted), now)

    async def take_back(self, store: AuthStore, admission: Admission) -> None:
        """The password was never checked."""
        await store.put_login_failures(await self._without(store, admission))

    async def fail(self, store: AuthStore, admission: Admission) -> None:
        """The password is wrong."""
        others = await self._without(store, admission)
        await store.put_login_failures({key: one.failed(self._clock.now()) for key, one in others.items()})

    async def succeed(self, store: AuthStore, admission: Admission, subject: Subject) -> None:
        """Forgets the failures from this address, and remembers the address as one of the owner's."""
        changed = await self._without(store, admission)
        if admission.address_key:
            changed[admission.address_key] = replace(changed[admission.address_key], count=0)
        await store.put_login_failures(changed)
        if admission.client_address:
            own = self._hashes.of("known", str(subject.user_id), admission.client_address)
            await store.remember_login_address(subject, own, now=self._clock.now(), keep=policy.MAX_KNOWN_ADDRESSES)

    async def _without(self, store: AuthStore, admission: Admission) -> dict[bytes, LoginFailures]:
        """What is stored for the login, without itself. Locks the account."""
        await store.lock_login(admission.account_key)
        found = await store.find_login_failures(admission.counted)
        now = self._clock.now()
        return {key: policy.current(found.get(key), now).ended(admission.begun_at) for key in admission.counted}

    async def _is_known(self, store: AuthStore, user_id: UserId, client_address: str | None) -> bool:
        """Whether the owner logged in from there before."""
        if not client_address:
            return False
        hashes = self._hashes.all_of("known", str(user_id), client_address)
        return await store.is_login_address(user_id, hashes, since=self._clock.now() - policy.KNOWN_FOR)

    def _decide(
        self,
        found: dict[bytes, LoginFailures],
        account_key: bytes,
        address_key: bytes | None,
        *,
        is_known: bool,
    ) -> dict[bytes, LoginFailures]:
        """The keys under which the login counts, with what is stored. Raises RateLimited."""
        now = self._clock.now()
        limits = self._limits
        from_address = policy.current(found.get(address_key) if address_key else None, now)
        of_account = policy.current(found.get(account_key), now)
        judged = [(address_key, from_address, limits.per_address)] if address_key else []
        counted = {address_key: from_address} if address_key else {}
        if not is_known:
            judged.append((account_key, of_account, limits.per_account))
            # One address adds at most its own free failures, so that it cannot use up those of all strangers.
            is_under_attack = of_account.count >= limits.per_account
            if is_under_attack or from_address.count < limits.per_address:
                counted[account_key] = of_account
        wait_s = max(policy.wait_s(failures, free, now) for _, failures, free in judged)
        if wait_s > 0:
            LOGINS.labels("limited").inc()
            raise RateLimited("Too many failed logins. Wait a moment.", retry_after_s=wait_s)
        for key, failures, free in judged:
            if policy.is_crowded(failures, free):
                raise TooManyPending(key)
        return counted
