"""The one canonical form of an e-mail address.

Letters of any width and case, composed or not, any of the full stops of IDNA, a domain in Unicode or in Punycode, with
or without invisible characters: all are spellings of one address. Whitespace around an address is ignored at login and
refused at registration. Letters that merely look alike, such as the Latin and the Cyrillic a, stay different.
"""

import unicodedata
from typing import Final

from email_validator import EmailNotValidError, validate_email
from mesh_common.text import without_invisible

from mesh_auth.domain import EmailAddress, LoginName

# RFC 3490, 3.1: what people type for a full stop. NFKC maps the two other ones, U+FF0E and U+FF61, to `.` and U+3002.
_IDEOGRAPHIC_FULL_STOP: Final = "\u3002"
# Folding and composing can each make something that the other changes again. No code point needs more than two rounds.
_FOLDING_ROUNDS: Final = 4


def parse_email(text: str) -> EmailAddress:
    """Raises ValueError with the reason if it has no canonical form. Checks only the syntax, without network access."""
    written = without_invisible(text)
    plain = without_invisible(unicodedata.normalize("NFKC", written)).replace(_IDEOGRAPHIC_FULL_STOP, ".")
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
        return LoginName((), _folded(without_invisible(stripped)))
    return LoginName(tuple(dict.fromkeys(key for key in (address.former_key, address.key) if key)), address.key)


def _folded(text: str) -> str:
    # casefold equates more spellings than lower: `ß` and `ss`, the Greek sigmas.
    for _ in range(_FOLDING_ROUNDS):
        folded = without_invisible(unicodedata.normalize("NFKC", text.casefold()))
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
