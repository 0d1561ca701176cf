"""The one canonical form of an e-mail address.

Letters of any width and case, composed or not, any of the full stops of IDNA, a domain in Unicode or in Punycode, with
or without invisible characters: all are spellings of one address. Whitespace around an address is ignored at login and
refused at registration. Letters that merely look alike, such as the Latin and the Cyrillic a, stay different.
"""

import re
import unicodedata
from typing import Final

from email_validator import EmailNotValidError, validate_email

from mesh_auth.domain import EmailAddress, LoginName

# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt, 16.0): displayed as nothing.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# RFC 3490, 3.1: what people type for a full stop. NFKC maps the two other ones, U+FF0E and U+FF61, to `.` and U+3002.
_IDEOGRAPHIC_FULL_STOP: Final = "\u3002"
# Folding and composing can each make something that the other changes again. No code point needs more than two rounds.
_FOLDING_ROUNDS: Final = 4


def parse_email(text: str) -> EmailAddress:
    """Raises ValueError with the reason if it has no canonical form. Checks only the syntax, without network access."""
    written = visible(text)
    plain = visible(unicodedata.normalize("NFKC", written)).replace(_IDEOGRAPHIC_FULL_STOP, ".")
    try:
        parsed = validate_email(plain, check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError("is not an e-mail address") from error
    return EmailAddress(
        written=written, key=_folded(f"{parsed.local_part}@{parsed.ascii_domain}"), former_key=_former_key(text)
    )


def login_name(text: str) -> LoginName:
    """Never fails: a text that is no address names no account, and its failures are counted by its folded form."""
    stripped = text.strip()
    try:
        address = parse_email(stripped)
    except ValueError:
        return LoginName((), _folded(visible(stripped)))
    return LoginName(tuple(dict.fromkeys(key for key in (address.former_key, address.key) if key)), address.key)


def visible(text: str) -> str:
    return _INVISIBLE.sub("", text)


def _folded(text: str) -> str:
    # casefold equates more spellings than lower: `ß` and `ss`, the Greek sigmas.
    for _ in range(_FOLDING_ROUNDS):
        folded = visible(unicodedata.normalize("NFKC", text.casefold()))
        if folded == text:
            break
        text = folded
    return text


def _former_key(text: str) -> str | None:
    """The key that accounts of release 0.1.0 have: no compatibility forms, and only the domain without invisible
    characters."""
    try:
        parsed = validate_email(text, check_deliverability=False)
    except EmailNotValidError:
        return None
    return unicodedata.normalize("NFC", f"{parsed.local_part}@{parsed.ascii_domain}".casefold())
