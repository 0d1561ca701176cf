"""`secrets --apply`: the whole set into Kubernetes, once and together, whatever moment the process dies at.

Keys and passwords belong together, so a set is never mixed. Before the first of its Secrets a journal is written, a
Secret with all of them; when they are there it goes. Whoever finds a journal (the next run, or another one at the
same time) finishes that set and makes none of its own.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
from mesh_common.errors import Conflict, PreconditionFailed
from mesh_common.ids import new_id

from mesh_admin.kubernetes_secrets import Fields, manifest

# The journal's name after the prefix; the only Secret that is ever deleted.
JOURNAL: Final = "secrets-unfinished"
_JOURNAL_KEY: Final = "secrets.json"
_SET_ID: Final = "agent-mesh/secret-set"
# Two runs at once can take the journal from under each other; once more than that is enough.
_TRIES: Final = 3


class SecretStore(Protocol):
    """The Secrets of one namespace (`kubernetes_api`)."""

    def get(self, name: str) -> Mapping[str, Any] | None: ...

    def create(self, secret: Mapping[str, Any]) -> bool:
        """False when the name is taken."""
        ...

    def delete(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _SecretSet:
    """Secrets that were made together; each carries the id."""

    id: str
    secrets: Mapping[str, Fields]


def apply_secrets(store: SecretStore, secrets: Mapping[str, Fields], *, prefix: str) -> str:
    """Creates all of `secrets`, or finishes the set that a run before left unfinished. Says what was done.

    Raises:
        PreconditionFailed: some are there and others are not, and no journal tells what the others were.
    """
    journal = f"{prefix}-{JOURNAL}"
    for _ in range(_TRIES):
        if written := store.get(journal):
            return _finish(store, journal, _read(written, journal))
        there = [name for name in secrets if store.get(name) is not None]
        if len(there) == len(secrets):
            return f"All {len(secrets)} Secrets are there already. Nothing was changed."
        _require_none(there, [name for name in secrets if name not in there])
        made = _SecretSet(str(new_id()), secrets)
        if store.create(_as_journal(made, journal)):
            return _finish(store, journal, made)
    raise Conflict("Another run makes Secrets at the same time. Try again.")


def _finish(store: SecretStore, journal: str, made: _SecretSet) -> str:
    found = {name: store.get(name) for name in made.secrets}
    missing = [name for name, secret in found.items() if secret is None]
    if missing:
        _require_none([name for name, secret in found.items() if secret and _id_of(secret) != made.id], missing)
    for name in missing:
        _create(store, name, made)
    store.delete(journal)
    if not missing:
        return f"All {len(found)} Secrets are there already. Nothing was changed."
    return f"{len(missing)} of {len(found)} Secrets were made: {', '.join(missing)}."


def _create(store: SecretStore, name: str, made: _SecretSet) -> None:
    if store.create(manifest(name, made.secrets[name], annotations={_SET_ID: made.id})):
        return
    # Somebody was faster: another run with the same journal, or this one, whose answer was lost.
    there = store.get(name)
    if there is None or _id_of(there) != made.id:
        raise Conflict(f"Secret {name} was made by somebody else at this moment. Look at it, then try again.")


def _require_none(there: list[str], missing: list[str]) -> None:
    if there:
        raise PreconditionFailed(
            f"Some of the Secrets are there ({', '.join(there)}) and others are missing ({', '.join(missing)})."
            " Keys and passwords belong together, so nothing was made: delete the first, or make the others yourself."
        )


def _as_journal(made: _SecretSet, journal: str) -> dict[str, Any]:
    content = {_JOURNAL_KEY: orjson.dumps(made.secrets).decode()}
    return manifest(journal, content, annotations={_SET_ID: made.id})


def _read(secret: Mapping[str, Any], journal: str) -> _SecretSet:
    try:
        content = orjson.loads(base64.b64decode(secret["data"][_JOURNAL_KEY], validate=True))
    except (KeyError, TypeError, binascii.Error, orjson.JSONDecodeError):
        # Without a cause: it would repeat what the journal holds.
        raise PreconditionFailed(f"Secret {journal} holds something else than a journal. Delete it.") from None
    return _SecretSet(_id_of(secret), content)


def _id_of(secret: Mapping[str, Any]) -> str:
    annotations = secret["metadata"].get("annotations") or {}
    return str(annotations.get(_SET_ID, ""))
