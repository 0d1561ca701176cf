"""`secrets --apply`: creates a complete set of Secrets in Kubernetes, even if the process dies at any moment.

Keys and passwords belong together, so two sets are never mixed. Before its first Secret, a set writes a journal: a
Secret that contains all of them. It deletes the journal once all Secrets exist. A run that finds a journal (a later run
or a concurrent one) completes that set and makes none of its own.
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

# The journal's name, after the prefix. It is the only Secret that is ever deleted.
JOURNAL: Final = "secrets-unfinished"
_JOURNAL_KEY: Final = "secrets.json"
_SET_ID: Final = "agent-mesh/secret-set"
# Concurrent runs can delete each other's journal, so one more try than two is enough.
_TRIES: Final = 3


class SecretStore(Protocol):
    """The Secrets of one namespace (`kubernetes_api`)."""

    def get(self, name: str) -> Mapping[str, Any] | None: ...

    def create(self, secret: Mapping[str, Any]) -> bool:
        """False if the name is taken."""
        ...

    def delete(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _SecretSet:
    """Secrets that were made together. Each is annotated with the id."""

    id: str
    secrets: Mapping[str, Fields]


def apply_secrets(store: SecretStore, secrets: Mapping[str, Fields], *, prefix: str) -> str:
    """Creates all of `secrets`, or completes the set of an earlier, interrupted run. Returns a message for the user.

    Raises:
        PreconditionFailed: some Secrets exist and others do not, and no journal contains the missing ones.
    """
    journal = f"{prefix}-{JOURNAL}"
    for _ in range(_TRIES):
        if written := store.get(journal):
            return _finish(store, journal, _read(written, journal))
        existing = [name for name in secrets if store.get(name) is not None]
        if len(existing) == len(secrets):
            return f"All {len(secrets)} Secrets already exist. Nothing was changed."
        _require_none(existing, [name for name in secrets if name not in existing])
        made = _SecretSet(str(new_id()), secrets)
        if store.create(_as_journal(made, journal)):
            return _finish(store, journal, made)
    raise Conflict("Another run is creating Secrets concurrently. Try again.")


def _finish(store: SecretStore, journal: str, made: _SecretSet) -> str:
    found = {name: store.get(name) for name in made.secrets}
    missing = [name for name, secret in found.items() if secret is None]
    if missing:
        _require_none([name for name, secret in found.items() if secret and _id_of(secret) != made.id], missing)
    for name in missing:
        _create(store, name, made)
    store.delete(journal)
    if not missing:
        return f"All {len(found)} Secrets already exist. Nothing was changed."
    return f"{len(missing)} of {len(found)} Secrets were created: {', '.join(missing)}."


def _create(store: SecretStore, name: str, made: _SecretSet) -> None:
    if store.create(manifest(name, made.secrets[name], annotations={_SET_ID: made.id})):
        return
    # It was created by a concurrent run with the same journal, or by this run, which missed the answer.
    existing = store.get(name)
    if existing is None or _id_of(existing) != made.id:
        raise Conflict(f"Secret {name} was concurrently created by another program. Check it, then try again.")


def _require_none(existing: list[str], missing: list[str]) -> None:
    if existing:
        raise PreconditionFailed(
            f"Some of the Secrets exist ({', '.join(existing)}) and others are missing ({', '.join(missing)})."
            " Keys and passwords belong together, so nothing was created: delete the former or provide the latter."
        )


def _as_journal(made: _SecretSet, journal: str) -> dict[str, Any]:
    content = {_JOURNAL_KEY: orjson.dumps(made.secrets).decode()}
    return manifest(journal, content, annotations={_SET_ID: made.id})


def _read(secret: Mapping[str, Any], journal: str) -> _SecretSet:
    try:
        content = orjson.loads(base64.b64decode(secret["data"][_JOURNAL_KEY], validate=True))
    except (KeyError, TypeError, binascii.Error, orjson.JSONDecodeError):
        # Without a cause, which would repeat the journal's content.
        raise PreconditionFailed(f"Secret {journal} does not contain a journal. Delete it.") from None
    return _SecretSet(_id_of(secret), content)


def _id_of(secret: Mapping[str, Any]) -> str:
    annotations = secret["metadata"].get("annotations") or {}
    return str(annotations.get(_SET_ID, ""))
