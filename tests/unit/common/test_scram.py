"""Verifiers of database passwords."""

import pytest
from mesh_admin.scram import scram_verifier

_SALT = bytes.fromhex("5b6d99689d123c8e2a9ff6a6b4a4f1d2")


def test_password_is_not_in_its_verifier() -> None:
    assert "pencil" not in scram_verifier("pencil")


def test_salt_is_new_each_time() -> None:
    assert scram_verifier("pencil") != scram_verifier("pencil")


@pytest.mark.parametrize("password", ["pencil", "it's", "a\\b", "\x01", "pässwörd", "🎈"])
def test_verifier_needs_no_quoting(password: str) -> None:
    verifier = scram_verifier(password)

    assert verifier.isascii()
    assert not {"'", "\\"} & set(verifier)


@pytest.mark.parametrize(
    ("written", "equal"),
    [("\u2168", "IX"), ("a\u00adb", "ab"), ("a\u00a0b", "a b"), ("e\u0301", "é")],
    ids=["compatibility", "soft hyphen", "no-break space", "decomposed"],
)
def test_spellings_of_one_password_give_one_verifier(written: str, equal: str) -> None:
    """RFC 4013, section 3, and Unicode's normal forms."""
    assert scram_verifier(written, salt=_SALT) == scram_verifier(equal, salt=_SALT)


@pytest.mark.parametrize("forbidden", ["\u0627\u0031", "é\x07"], ids=["mixed directions", "control character"])
def test_password_that_saslprep_forbids_stays_as_it_is(forbidden: str) -> None:
    assert scram_verifier(forbidden, salt=_SALT) != scram_verifier(forbidden + "\u00ad", salt=_SALT)
