"""The encoding and locale that the mesh requires of any database (docs/adr/0019).

PostgreSQL fixes both when the database is created and reports no problem later. In a database that knows only ASCII
letters, case folding, word boundaries and trigrams of all other letters differ from those in the databases of the
tests.
"""

from typing import Final

REMEDY: Final = (
    "create it with ENCODING 'UTF8' and a UTF-8 locale "
    "(PostgreSQL 17 and newer: LOCALE_PROVIDER builtin, LOCALE 'C.UTF-8'; docs/operations/install.md)"
)

# One row: encoding, LC_CTYPE, and whether lower('Ä') is 'ä' by the database's own collation. The letters are given by
# their code points, because not every encoding has them; in other encodings it compares A and a.
TEXT_SQL: Final = """
SELECT pg_encoding_to_char(encoding) AS encoding,
       datctype AS ctype,
       lower(chr(CASE WHEN pg_encoding_to_char(encoding) = 'UTF8' THEN 196 ELSE 65 END))
           = chr(CASE WHEN pg_encoding_to_char(encoding) = 'UTF8' THEN 228 ELSE 97 END) AS folds_case
FROM pg_database
WHERE datname = current_database()
"""
_ASCII_LOCALES: Final = frozenset({"C", "POSIX"})


def text_fault(encoding: str, ctype: str, folds_case: bool) -> str | None:  # noqa: FBT001 - a row of TEXT_SQL
    """The fault of a database with this row of `TEXT_SQL`, or None."""
    if encoding != "UTF8":
        return f"the database's encoding is {encoding} instead of UTF8, which cannot hold every language"
    if not folds_case:
        return "the database's locale knows the case of ASCII letters only: lower('Ä') is not 'ä'"
    if ctype in _ASCII_LOCALES:
        return f"the database's LC_CTYPE is {ctype}: text search and trigrams would know ASCII letters only"
    return None
