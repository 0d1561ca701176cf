"""`python -m mesh_admin secrets --apply` as a pod runs it, with a fake API server."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh_admin.kubernetes_api import KubernetesSecrets, KubernetesSettings
from mesh_admin.kubernetes_secrets import manifest
from mesh_common.errors import PermissionDenied, PreconditionFailed, Unavailable
from mesh_common.jwt import SigningKey
from support.kubernetes_api import NAMESPACE, FakeApi, open_api

APPLY = ("--apply", "--prefix", "demo", "--database", "db:5432/bots", "--redis", "cache:6379")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    with open_api(tmp_path) as opened:
        yield opened


async def secrets(api: FakeApi, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mesh_admin", "secrets", *arguments, env=api.environment(), stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_set_is_made_in_the_pods_namespace_and_left_alone_by_the_next_run(api: FakeApi) -> None:
    first = await secrets(api, *APPLY)
    made = dict(api.store.secrets)
    second = await secrets(api, *APPLY)

    assert (first[0], first[2]) == (0, "")
    assert first[1].startswith("13 of 13 Secrets were created: demo-gateway, ")
    assert second == (0, "All 13 Secrets already exist. Nothing was changed.\n", "")
    assert api.store.secrets == made
    assert len(made) == 13
    assert SigningKey.from_pem(api.store.fields("demo-auth")["AUTH_SIGNING_KEY"]).kid
    assert api.store.fields("demo-memory")["MEMORY_DATABASE_URL"].endswith("@db:5432/bots")
    assert not [value for value in api.store.fields("demo-redis").values() if value in first[1]]


async def test_part_of_a_set_is_refused_with_one_sentence(api: FakeApi) -> None:
    api.store.create(manifest("demo-bootstrap", {"BOOTSTRAP_DATABASE_PASSWORDS": "{}"}))

    code, output, errors = await secrets(api, *APPLY)

    assert (code, output) == (1, "")
    assert errors.startswith("Some of the Secrets exist (demo-bootstrap) and others are missing (demo-gateway, ")
    assert len(errors.splitlines()) == 1
    assert list(api.store.secrets) == ["demo-bootstrap"]


async def test_what_somebody_else_makes_is_neither_made_nor_missed(api: FakeApi) -> None:
    api.store.create(manifest("demo-database-admin", {"BOOTSTRAP_ADMIN_DATABASE_URL": "theirs"}))

    code, output, _ = await secrets(api, *APPLY, "--skip", "database-admin")

    assert code == 0
    assert output.startswith("12 of 12 ")
    assert api.store.fields("demo-database-admin") == {"BOOTSTRAP_ADMIN_DATABASE_URL": "theirs"}


async def test_outside_a_pod_every_fault_is_reported(api: FakeApi) -> None:
    (api.folder / "token").unlink()
    api.host = ""

    code, output, errors = await secrets(api, *APPLY)

    assert (code, output) == (2, "")
    assert [line.partition(":")[0] for line in errors.splitlines()] == [
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_ACCOUNT_FOLDER",
    ]


def test_calls_reach_the_api_and_say_what_was_there(store: KubernetesSecrets) -> None:
    made = [store.create(manifest("one", {"a": "b"})) for _ in range(2)]
    found = store.get("one")
    store.delete("one")
    store.delete("one")

    assert made == [True, False]
    assert found
    assert found["data"] == {"a": "Yg=="}
    assert store.get("one") is None


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (403, PermissionDenied, f"Kubernetes refused creating Secret one in namespace {NAMESPACE} .403."),
        (401, PermissionDenied, "Kubernetes refused creating Secret one"),
        (422, PreconditionFailed, "Kubernetes answered 422 .Invalid. to creating Secret one"),
        (307, PreconditionFailed, "Kubernetes answered 307 .Invalid. to creating Secret one"),
    ],
)
def test_refusal_is_reported_without_the_request(
    api: FakeApi, store: KubernetesSecrets, status: int, error: type[Exception], sentence: str
) -> None:
    api.refusals.append((status, b'{"reason": "Invalid", "message": "data: hush-hush is wrong"}'))

    with pytest.raises(error, match=sentence) as refusal:
        store.create(manifest("one", {"a": "hush-hush"}))

    assert "hush" not in str(refusal.value)


def test_answer_that_is_not_of_kubernetes_is_reported(api: FakeApi, store: KubernetesSecrets) -> None:
    api.refusals.append((500, b"<html>"))

    with pytest.raises(PreconditionFailed, match=r"Kubernetes answered 500 \(no reason given\) to reading Secret one"):
        store.get("one")


def test_connection_that_is_cut_is_made_again(api: FakeApi, store: KubernetesSecrets) -> None:
    api.cuts = 2

    assert store.get("one") is None
    assert api.requests == [f"GET /api/v1/namespaces/{NAMESPACE}/secrets/one"] * 3


def test_api_server_of_another_authority_is_not_spoken_to(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with open_api(tmp_path / "other") as other:
        (api.folder / "ca.crt").write_bytes((other.folder / "ca.crt").read_bytes())

    with pytest.raises(Unavailable, match=r"could not be reached \(SSLCertVerificationError\)"):
        store_of(api).get("one")

    assert api.requests == []


@pytest.fixture
def store(api: FakeApi) -> KubernetesSecrets:
    return store_of(api)


def store_of(api: FakeApi) -> KubernetesSecrets:
    settings = KubernetesSettings(service_host="127.0.0.1", service_port=api.port, service_account_folder=api.folder)
    return KubernetesSecrets(settings)
