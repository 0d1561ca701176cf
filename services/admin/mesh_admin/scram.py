"""SCRAM verifiers of database passwords, computed here as libpq's `PQencryptPasswordConn` does.

PostgreSQL stores a verifier as it is given, so no plain password reaches the server, whose log, `pg_stat_activity` and
`pg_stat_statements` show statements. https://www.postgresql.org/docs/16/sql-createrole.html
"""

import base64
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from collections.abc import Callable
from typing import Final

# PostgreSQL's own numbers (scram_iterations since 16). Generated passwords have 256 bits; more iterations add nothing.
_ITERATIONS: Final = 4_096
_SALT_BYTES: Final = 16
# RFC 4013, 2.3 and 2.5.
_PROHIBITED: Final[tuple[Callable[[str], bool], ...]] = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def scram_verifier(password: str, *, salt: bytes | None = None) -> str:
    """`SCRAM-SHA-256$…`, for `ALTER ROLE … PASSWORD`. It contains no quote and no backslash."""
    salt = salt or secrets.token_bytes(_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password).encode(), salt, _ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_base64(salt)}${_base64(stored_key)}:{_base64(server_key)}"


def _prepared(password: str) -> str:
    """SASLprep (RFC 4013); a password that it does not allow stays as it is, as in PostgreSQL and its clients."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    is_allowed = prepared and not any(is_in(char) for char in prepared for is_in in _PROHIBITED)
    return prepared if is_allowed and _is_of_one_direction(prepared) else password


def _is_of_one_direction(text: str) -> bool:
    """RFC 3454, 6: text with a right-to-left character begins and ends with one, and has no left-to-right character."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends and not any(map(stringprep.in_table_d2, text))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
