"""Rules for new passwords (NIST SP 800-63B, 3.1.1.2): long, and not among those that attackers try first.

Few entries in the lists of leaked passwords have at least 15 characters. `common_passwords.txt` contains them (from
Django's list of the 20,000 most common, BSD, and well-known phrases). Rules detect how people pad a password to 15
characters: repetition, keyboard walks, common words.
"""

import re
import unicodedata
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Final

MIN_CHARS: Final = 15
MAX_CHARS: Final = 128
# A password that repeats a unit this short is as weak as the unit.
_MAX_REPEATED_CHARS: Final = 10
_MIN_DISTINCT_CHARS: Final = 5
# In "1qaz2wsx3edc4rfv" 12 of 15 steps are walks; in an English phrase about one in ten is.
_MAX_WALK_RATIO: Final = 0.7
_MIN_OWN_LETTERS: Final = 4
_MIN_NAME_CHARS: Final = 3
_WALKS: Final = (
    "0123456789012345",
    "abcdefghijklmnopqrstuvwxyz",
    "1234567890-=",
    "qwertyuiop[]",
    "asdfghjkl;'",
    "zxcvbnm,./",
    *("1qaz", "2wsx", "3edc", "4rfv", "5tgb", "6yhn", "7ujm", "8ik,", "9ol.", "0p;/"),
    *("qaz", "wsx", "edc", "rfv", "tgb", "yhn", "ujm", "zaq", "xsw"),
    "1q2w3e4r5t6y7u8i9o0p",
    "q1w2e3r4t5y6u7i8o9p0",
    "qawsedrftgyhujikolp",
)
_WALK_STEPS: Final = frozenset(step for walk in _WALKS for step in (*pairwise(walk), *pairwise(reversed(walk))))
_WORDS: Final = (
    *("password", "passwort", "passphrase", "passw0rd", "welcome", "iloveyou", "letmein", "qwertyuiop", "qwerty"),
    *("administrator", "admin", "changeme", "default", "secret", "login", "master", "monkey", "dragon", "football"),
    *("baseball", "sunshine", "princess", "superman", "batman", "trustno", "abc", "test", "user", "mesh", "agent"),
)
_LOOKALIKES: Final = str.maketrans("@4031!5$7", "aaoeiisst")


def normalised(password: str) -> str:
    """The form that is hashed: NFC, so that the same keys on another system give the same password."""
    return unicodedata.normalize("NFC", password)


def fault_of(password: str, *, email: str) -> str | None:
    """The fault of a new, normalised password, as a message for its owner; None if there is none."""
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        return f"must have {MIN_CHARS} to {MAX_CHARS} characters"
    folded = password.casefold()
    if folded in _common() or _is_monotonous(folded) or _is_walk(folded):
        return "is too common; use several unrelated words"
    if _is_padding_around(folded, _names(email)):
        return "is too close to a common word or to your e-mail address; use several unrelated words"
    return None


@cache
def _common() -> frozenset[str]:
    return frozenset(files("mesh_auth").joinpath("common_passwords.txt").read_text("utf-8").splitlines())


def _is_monotonous(password: str) -> bool:
    if len(set(password)) < _MIN_DISTINCT_CHARS:
        return True
    sizes = range(1, min(_MAX_REPEATED_CHARS, len(password) // 2) + 1)
    return any(password[size:] == password[:-size] for size in sizes)


def _is_walk(password: str) -> bool:
    steps = list(pairwise(password))
    walked = sum(1 for step in steps if step in _WALK_STEPS or step[0] == step[1])
    return walked / len(steps) > _MAX_WALK_RATIO


def _is_padding_around(password: str, names: tuple[str, ...]) -> bool:
    """Whether almost nothing remains without common words, the owner's names, digits and punctuation."""
    covered: set[int] = set()
    for form in (password, password.translate(_LOOKALIKES)):
        for word in (*_WORDS, *names):
            for match in re.finditer(re.escape(word), form):
                covered.update(range(*match.span()))
    own_letters = sum(1 for index, char in enumerate(password) if char.isalpha() and index not in covered)
    return bool(covered) and own_letters < _MIN_OWN_LETTERS


def _names(email: str) -> tuple[str, ...]:
    words = re.split(r"[\W_]+", email.casefold())
    return tuple(word for word in words if len(word) >= _MIN_NAME_CHARS)
