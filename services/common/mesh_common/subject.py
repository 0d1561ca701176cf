"""The subject that a call acts for: an organisation, a user in it, and the user's roles and scopes there.

It is sent in access tokens and gRPC metadata and set in the settings of a transaction. A personal organisation has the
id of its user, so a user id alone identifies a subject: release 0.1.0 sends and stores nothing else.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import orjson

from mesh_common.ids import OrganisationId, UserId

ADMIN: Final = "admin"
"""The scope of administrators of the mesh."""
APPROVE_RUNS: Final = "runs:approve"
"""The scope to decide what runs of other users in the same organisation ask."""
MANAGE_ASSISTANTS: Final = "assistants:manage"
"""The scope to change and disable assistants that others share with the organisation."""
MAX_NAMES: Final = 16
"""The most roles of one subject, and the most scopes."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_.:-]{0,63}")
# Enough for 2 x 16 names of 64 characters and two ids. gRPC limits all metadata of a call to 8 KiB.
_MAX_CHARS: Final = 4_096
# About as many subjects as have calls in progress on one replica. An entry takes about 1 KiB.
_MAX_CACHED: Final = 1_024


@dataclass(frozen=True, slots=True)
class Subject:
    """Raises ValueError for more than 16 roles or scopes, or if one is not a lower-case name of 1 to 64 characters."""

    organisation_id: OrganisationId
    user_id: UserId
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.roles:
            _check_names("roles", self.roles)
        if self.scopes:
            _check_names("scopes", self.scopes)

    @classmethod
    def personal(cls, user_id: UserId) -> "Subject":
        """The user in their personal organisation, without roles or scopes."""
        return cls(OrganisationId(user_id), user_id)

    def without_grants(self) -> "Subject":
        """Only the organisation and the user, as in stored rows.

        For work that outlives its request, because a role or a scope may be withdrawn meanwhile.
        """
        return Subject(self.organisation_id, self.user_id) if self.roles or self.scopes else self

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.scopes

    @property
    def may_manage_assistants(self) -> bool:
        """Whether the subject may change assistants that others share with its organisation."""
        return not self.scopes.isdisjoint((MANAGE_ASSISTANTS, ADMIN))

    @property
    def may_approve(self) -> bool:
        """Whether the subject may decide what runs of others in its organisation ask."""
        return not self.scopes.isdisjoint((APPROVE_RUNS, ADMIN))

    def as_text(self) -> str:
        """Compact JSON for `parse_subject`; equal subjects give equal texts."""
        return _text_of(self)


# Both functions are cached because all calls of a turn send and read the same subject.
@lru_cache(maxsize=_MAX_CACHED)
def _text_of(subject: Subject) -> str:
    fields: dict[str, Any] = {"org": str(subject.organisation_id), "user": str(subject.user_id)}
    if subject.roles:
        fields["roles"] = sorted(subject.roles)
    if subject.scopes:
        fields["scopes"] = sorted(subject.scopes)
    return orjson.dumps(fields).decode()


@lru_cache(maxsize=_MAX_CACHED)
def parse_subject(text: str) -> Subject:
    """Parses `Subject.as_text`. Ignores unknown fields, which a later release may add. Raises ValueError."""
    if len(text) > _MAX_CHARS:
        raise ValueError(f"a subject has at most {_MAX_CHARS} characters")
    fields = orjson.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("a subject is a JSON object")  # noqa: TRY004 - callers expect ValueError
    return Subject(
        OrganisationId(_id(fields.get("org"))),
        UserId(_id(fields.get("user"))),
        names(fields.get("roles", [])),
        names(fields.get("scopes", [])),
    )


def names(value: object) -> frozenset[str]:
    """The names of a JSON list. Raises ValueError for anything else."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("roles and scopes are lists of names")
    return frozenset(value)


def _id(value: object) -> UUID:
    if not isinstance(value, str):
        raise ValueError("a subject names its organisation and its user")  # noqa: TRY004 - the same
    return UUID(value)


def _check_names(kind: str, found: Iterable[str]) -> None:
    checked = list(found)
    if len(checked) > MAX_NAMES or not all(_NAME.fullmatch(name) for name in checked):
        raise ValueError(f"{kind}: at most {MAX_NAMES} names of up to 64 lower-case characters")
