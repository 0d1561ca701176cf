"""Values in Redis that carry a MAC."""

from datetime import timedelta

import pytest
from fakes.clock import FakeClock
from mesh_common.jwt import SigningKey, new_private_key_pem
from mesh_gateway.identity.seal import Seal

KEY = SigningKey.from_pem(new_private_key_pem())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def seal(clock: FakeClock) -> Seal:
    return Seal(KEY, clock)


def test_any_gateway_of_the_release_opens_what_another_one_sealed(seal: Seal, clock: FakeClock) -> None:
    value = seal.sealed("name", b"content", ttl_s=60)

    assert Seal(KEY, clock).opened("name", value) == b"content"


def test_key_is_the_same_however_its_pem_is_written(seal: Seal, clock: FakeClock) -> None:
    value = seal.sealed("name", b"content", ttl_s=60)
    other_pem = SigningKey(KEY.kid, KEY.pem.replace("\n", "\r\n"))

    assert Seal(other_pem, clock).opened("name", value) == b"content"


def test_every_changed_bit_is_noticed(seal: Seal) -> None:
    value = seal.sealed("name", b"content", ttl_s=60)

    for bit in range(8 * len(value)):
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        assert seal.opened("name", bytes(changed)) is None


@pytest.mark.parametrize("value", [b"", b"content", bytes(31), bytes(32), bytes(40), "content"])
def test_what_nobody_sealed_is_refused(seal: Seal, value: bytes | str) -> None:
    assert seal.opened("name", value) is None


def test_value_is_good_under_its_own_name_alone(seal: Seal) -> None:
    value = seal.sealed("name", b"content", ttl_s=60)

    assert seal.opened("other", value) is None


def test_value_of_another_key_is_refused(seal: Seal, clock: FakeClock) -> None:
    value = seal.sealed("name", b"content", ttl_s=60)

    assert Seal(SigningKey.from_pem(new_private_key_pem()), clock).opened("name", value) is None


def test_value_that_is_kept_too_long_is_refused(seal: Seal, clock: FakeClock) -> None:
    value = seal.sealed("name", b"content", ttl_s=60)
    clock.advance(timedelta(seconds=59))
    before = seal.opened("name", value)
    clock.advance(timedelta(seconds=1))

    assert (before, seal.opened("name", value)) == (b"content", None)
