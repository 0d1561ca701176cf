"""The algorithms: which passwords match, and the cost of each answer."""

import argon2
import bcrypt
import pytest
from fakes.auth.gated_argon2 import GatedArgon2
from fakes.clock import FakeClock
from mesh_auth.passwords.hash_pool import Bounds, HashPool
from mesh_auth.passwords.hashing import Argon2Hasher, open_hasher

PASSWORD = "seven green kettles whistle"


@pytest.fixture
def hasher(pool: HashPool, argon2id: GatedArgon2) -> Argon2Hasher:
    return Argon2Hasher(pool, argon2id)


async def test_new_hashes_are_argon2id_with_the_parameters_of_owasp() -> None:
    async with open_hasher(Bounds(workers=1, queue=0, wait_s=0.0), FakeClock()) as hasher:
        password_hash = await hasher.hash(PASSWORD)

    parameters = argon2.extract_parameters(password_hash)
    assert parameters.type is argon2.Type.ID
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19_456, 2, 1)


async def test_password_matches_its_own_hash_alone(hasher: Argon2Hasher) -> None:
    password_hash = await hasher.hash(PASSWORD)

    right = await hasher.verify(PASSWORD, password_hash)
    wrong = await hasher.verify(f"{PASSWORD}!", password_hash)

    assert (right.is_match, right.needs_rehash) == (True, False)
    assert not wrong.is_match


async def test_unknown_account_costs_one_verification_too(hasher: Argon2Hasher, argon2id: GatedArgon2) -> None:
    password_hash = await hasher.hash(PASSWORD)
    await hasher.verify(PASSWORD, password_hash)
    of_known = argon2id.verified

    check = await hasher.verify(PASSWORD, None)

    assert not check.is_match
    assert (of_known, argon2id.verified) == (1, 2)


async def test_nobody_gets_in_with_the_password_of_the_dummy(hasher: Argon2Hasher) -> None:
    assert not (await hasher.verify("no account has this password", None)).is_match


async def test_hash_of_weaker_parameters_is_to_be_replaced(hasher: Argon2Hasher) -> None:
    weaker = argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash(PASSWORD)

    check = await hasher.verify(PASSWORD, weaker)

    assert (check.is_match, check.needs_rehash) == (True, True)


@pytest.mark.parametrize(
    "other",
    [
        argon2.PasswordHasher(time_cost=1, memory_cost=32, parallelism=4),
        argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=argon2.Type.I),
        argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=argon2.Type.D),
        argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, salt_len=64, hash_len=64),
        argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, salt_len=8, hash_len=16),
    ],
    ids=["lanes", "argon2i", "argon2d", "longer", "shorter"],
)
async def test_argon2_of_other_systems_is_verified_and_to_be_replaced(
    hasher: Argon2Hasher, other: argon2.PasswordHasher
) -> None:
    password_hash = other.hash(PASSWORD)

    right = await hasher.verify(PASSWORD, password_hash)
    wrong = await hasher.verify(f"{PASSWORD}!", password_hash)

    assert (right.is_match, right.needs_rehash) == (True, True)
    assert not wrong.is_match


async def test_hash_of_the_reference_implementation_is_as_good_as_ours(hasher: Argon2Hasher) -> None:
    made = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)

    right = await hasher.verify(PASSWORD, made)
    wrong = await hasher.verify(f"{PASSWORD}!", made)

    assert (right.is_match, right.needs_rehash) == (True, False)
    assert not wrong.is_match


@pytest.mark.parametrize("password", [PASSWORD, "\u00e9" * 100])
async def test_bcrypt_hash_is_verified_and_to_be_replaced(hasher: Argon2Hasher, password: str) -> None:
    """Old libraries truncate passwords at 72 bytes; bcrypt 5 raises an error."""
    old = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()

    right = await hasher.verify(password, old)
    wrong = await hasher.verify(f"x{password}", old)

    assert (right.is_match, right.needs_rehash) == (True, True)
    assert not wrong.is_match


@pytest.mark.parametrize(
    "password_hash",
    [
        "!",
        "",
        "$argon2id$broken",
        "$argon2id$v=19$m=8,t=1,p=1$a$b",
        f"$argon2id$v=19$m=8,t=1,p=1${'é' * 66}",
        "$1$md5$crypt",
        "$2b$broken",
    ],
)
async def test_hash_of_unknown_form_never_matches(hasher: Argon2Hasher, password_hash: str) -> None:
    assert not (await hasher.verify(PASSWORD, password_hash)).is_match
