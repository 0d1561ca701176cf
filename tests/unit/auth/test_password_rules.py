"""Weak new passwords are rejected, strong ones are accepted."""

import random
import string

import pytest
from mesh_auth.passwords import rules as passwords

EMAIL = "ada.lovelace@analytical.example.com"


@pytest.mark.parametrize("password", ["", "fourteen chars", "x" * 14, "ab cd efg " * 12 + "123456789"])
def test_length_is_15_to_128(password: str) -> None:
    assert passwords.fault_of(password, email=EMAIL) == "must have 15 to 128 characters"


@pytest.mark.parametrize(
    "password",
    [
        "aaaaaaaaaaaaaaa",
        "               ",
        "abababababababab",
        "1212121212121212",
        "password1password1",
        "hunter2!hunter2!hun",
        "123456789012345",
        "abcdefghijklmnopq",
        "987654321098765",
        "qwertyuiopasdfgh",
        "QWERTYUIOPasdfghjkl",
        "1qaz2wsx3edc4rfv",
        "1q2w3e4r5t6y7u8i",
        "zaq1xsw2cde3vfr4",
        "correct horse battery staple",
        "CorrectHorseBatteryStaple",
        "Manchesterunited",
    ],
)
def test_what_guessers_try_first_is_refused(password: str) -> None:
    fault = passwords.fault_of(password, email=EMAIL)

    assert fault is not None
    assert "too common" in fault


@pytest.mark.parametrize(
    "password",
    [
        "Password12345678",
        "P@ssw0rd!P@ssw0rd!2024",
        "admin123456!admin",
        "Welcome2024!Welcome",
        "ada.lovelace1815",
        "AdaLovelace-1815-1852",
        "lovelace@analytical",
        "analytical-ada-1234567",
    ],
)
def test_padding_around_common_words_and_the_owners_address_is_refused(password: str) -> None:
    fault = passwords.fault_of(password, email=EMAIL)

    assert fault is not None
    assert "too close" in fault or "too common" in fault


@pytest.mark.parametrize(
    "password",
    [
        "seven green kettles whistle",
        "비밀번호는 길수록 좋습니다 정말로",
        "пароль из пяти слов ночью",
        "correct pony battery staple",
        "my password is a kettle",
        "Xk4#mQ9$vL2&pR7",
        "829104756382910",
        "🐙🦀🐡🐠🐟🐬🐳🐋🦈🐊🐅🐆🦓🦍🦧",
    ],
)
def test_strong_passwords_of_any_characters_are_taken(password: str) -> None:
    assert passwords.fault_of(password, email=EMAIL) is None


def test_random_passwords_are_taken() -> None:
    chooser = random.Random(20261124)  # noqa: S311 - the same passwords each time
    alphabet = string.ascii_letters + string.digits + string.punctuation
    drawn = ["".join(chooser.choices(alphabet, k=20)) for _ in range(2_000)]

    refused = [password for password in drawn if passwords.fault_of(password, email=EMAIL)]

    assert refused == []


def test_bundled_list_holds_only_what_the_length_lets_through() -> None:
    listed = passwords._common()

    assert len(listed) >= 50
    assert all(len(entry) >= passwords.MIN_CHARS and entry == entry.casefold() for entry in listed)


def test_forms_of_one_password_are_normalised_to_one() -> None:
    assert passwords.normalised("cafe\u0301") == passwords.normalised("caf\u00e9") == "caf\u00e9"
