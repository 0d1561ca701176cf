"""`secrets --apply` creates a complete set or nothing, whenever the process dies and whatever runs concurrently."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from fakes.common.secret_store import FakeSecretStore, ProcessDiedError
from mesh_admin.apply_secrets import JOURNAL, apply_secrets
from mesh_admin.kubernetes_secrets import Fields, Place, kubernetes_secrets, manifest
from mesh_admin.secrets import make_secrets
from mesh_common.errors import Conflict, PreconditionFailed

PLACE = Place(database="db:5432", redis="cache:6379", prefix="demo")
JOURNAL_NAME = f"demo-{JOURNAL}"
SETS = [kubernetes_secrets(make_secrets(), PLACE) for _ in range(2)]


def test_nothing_there_makes_all_and_leaves_no_journal() -> None:
    store = FakeSecretStore()

    said = apply_secrets(store, SETS[0], prefix="demo")

    assert contents(store) == SETS[0]
    assert said.startswith("13 of 13 Secrets were created: demo-gateway, ")


def test_all_there_are_left_as_they_are() -> None:
    store = FakeSecretStore()
    apply_secrets(store, SETS[0], prefix="demo")
    store.changes = 0

    said = apply_secrets(store, SETS[1], prefix="demo")

    assert contents(store) == SETS[0]
    assert store.changes == 0
    assert said == "All 13 Secrets already exist. Nothing was changed."


def test_some_there_are_refused_by_name_and_without_a_value() -> None:
    store = FakeSecretStore()
    store.create(manifest("demo-auth", SETS[0]["demo-auth"]))

    with pytest.raises(PreconditionFailed) as refusal:
        apply_secrets(store, SETS[1], prefix="demo")

    there, missing = refusal.value.message.split("missing")
    assert "demo-auth)" in there
    assert "demo-auth," not in missing
    assert "demo-service-keys)" in missing
    assert list(store.secrets) == ["demo-auth"]
    assert not [value for value in values(SETS[0]) + values(SETS[1]) if value in refusal.value.message]


@pytest.mark.parametrize("dies_after", range(15))
def test_death_at_any_moment_leaves_what_the_next_run_finishes_as_one_set(dies_after: int) -> None:
    store = FakeSecretStore(dies_after=dies_after)
    with pytest.raises(ProcessDiedError):
        apply_secrets(store, SETS[0], prefix="demo")
    store.dies_after = None

    apply_secrets(store, SETS[1], prefix="demo")

    assert contents(store) == SETS[1 if dies_after == 0 else 0]


def test_secret_of_another_source_is_not_mixed_into_an_unfinished_set() -> None:
    store = FakeSecretStore(dies_after=3)
    with pytest.raises(ProcessDiedError):
        apply_secrets(store, SETS[0], prefix="demo")
    store.dies_after = None
    store.create(manifest("demo-redis", {"REDIS_PASSWORD": "by hand"}))

    with pytest.raises(PreconditionFailed, match=r"exist \(demo-redis\) and others are missing \(demo-agent, "):
        apply_secrets(store, SETS[1], prefix="demo")

    store.delete("demo-redis")
    apply_secrets(store, SETS[1], prefix="demo")
    assert contents(store) == SETS[0]


class _Rival(FakeSecretStore):
    """Performs another run, completely or in part, before the first change of this one."""

    rival_dies_after: int | None = None
    has_run: bool = False

    def create(self, secret: Mapping[str, Any]) -> bool:
        if not self.has_run:
            self.has_run = True
            self.dies_after = self.rival_dies_after
            with suppress(ProcessDiedError):
                apply_secrets(self, SETS[1], prefix="demo")
            self.dies_after = None
        return super().create(secret)


@pytest.mark.parametrize("dies_after", [None, *range(1, 15)])
def test_two_runs_at_once_make_one_set(dies_after: int | None) -> None:
    store = _Rival()
    store.rival_dies_after = dies_after

    apply_secrets(store, SETS[0], prefix="demo")

    assert contents(store) == SETS[1]


def test_secret_created_meanwhile_by_another_is_reported() -> None:
    class Beaten(FakeSecretStore):
        def create(self, secret: Mapping[str, Any]) -> bool:
            if secret["metadata"]["name"] == "demo-eval":
                super().create(manifest("demo-eval", {"by": "hand"}))
            return super().create(secret)

    store = Beaten()

    with pytest.raises(Conflict, match="Secret demo-eval was concurrently created by another program"):
        apply_secrets(store, SETS[0], prefix="demo")

    assert JOURNAL_NAME in store.secrets


def test_invalid_journal_is_reported_without_its_content() -> None:
    store = FakeSecretStore()
    store.create(manifest(JOURNAL_NAME, {"secrets.json": "{hush"}))

    with pytest.raises(PreconditionFailed, match=f"Secret {JOURNAL_NAME} does not contain a journal") as refusal:
        apply_secrets(store, SETS[0], prefix="demo")

    assert "hush" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def contents(store: FakeSecretStore) -> dict[str, Fields]:
    return {name: store.fields(name) for name in store.secrets}


def values(secrets: dict[str, Fields]) -> list[str]:
    return [value for fields in secrets.values() for value in fields.values()]
