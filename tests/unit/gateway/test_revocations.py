"""Revoked sessions are read in pages, kept while auth is unavailable, and removed when they expire."""

from datetime import timedelta

from fakes.clock import FakeClock
from mesh_common.errors import MeshError, Unavailable
from mesh_gateway.identity.revocations import RevocationPage, Revocations, RevokedSession


class FakeSource:
    def __init__(self, clock: FakeClock) -> None:
        self.sessions: list[RevokedSession] = []
        self.error: MeshError | None = None
        self.cursors: list[str | None] = []
        self._clock = clock

    def revoke(self, session_id: str, *, ttl_s: int = 900) -> None:
        self.sessions.append(RevokedSession(session_id, self._clock.now() + timedelta(seconds=ttl_s)))

    async def revocations(self, cursor: str | None) -> RevocationPage:
        if self.error:
            raise self.error
        self.cursors.append(cursor)
        start = int(cursor or 0)
        page = tuple(self.sessions[start : start + 2])
        end = start + len(page)
        return RevocationPage(page, str(end), end < len(self.sessions))


async def test_poll_walks_all_pages_and_goes_on_from_the_cursor() -> None:
    clock = FakeClock()
    source = FakeSource(clock)
    revocations = Revocations(source, clock)
    for name in ("a", "b", "c"):
        source.revoke(name)

    await revocations.poll()
    source.revoke("d")
    await revocations.poll()

    assert [revocations.is_revoked(name) for name in ("a", "b", "c", "d", "e")] == [True, True, True, True, False]
    assert source.cursors == [None, "2", "3"]


async def test_revocations_stay_known_while_auth_is_unavailable() -> None:
    clock = FakeClock()
    source = FakeSource(clock)
    revocations = Revocations(source, clock)
    source.revoke("a")
    await revocations.poll()

    source.error = Unavailable("away")
    await revocations.poll()

    assert revocations.is_revoked("a")


async def test_expired_entries_are_forgotten() -> None:
    clock = FakeClock()
    source = FakeSource(clock)
    revocations = Revocations(source, clock)
    source.revoke("short", ttl_s=10)
    source.revoke("long", ttl_s=100)
    await revocations.poll()

    clock.advance(timedelta(seconds=11))
    await revocations.poll()

    assert (revocations.is_revoked("short"), revocations.is_revoked("long")) == (False, True)
