"""The command `secrets`, as an operator runs it."""

import argparse
import io
from pathlib import Path

import orjson
import pytest
from mesh_admin.secrets import make_secrets
from mesh_admin.secrets_command import add_secrets_command, run_secrets_command
from mesh_common.errors import Unauthenticated
from mesh_common.grpc.service_tokens import ServiceTokenSigner, ServiceTokenVerifier
from mesh_common.jwt import SigningKey, parse_jwks


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Run":
    return Run(monkeypatch, capsys)


class Run:
    """`run(...)` returns the command's output, `faults(...)` its error message when it fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        parser = argparse.ArgumentParser()
        add_secrets_command(parser.add_subparsers())
        run_secrets_command(parser.parse_args(["secrets", *arguments]))
        return self._capsys.readouterr().out

    def faults(self, *arguments: str, stdin: str = "") -> str:
        with pytest.raises(SystemExit) as ended:
            self(*arguments, stdin=stdin)
        assert self._capsys.readouterr().out == ""
        return str(ended.value.code)


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "service-jwks.json"
    path.write_text(SECRETS.service_jwks())
    return path


SECRETS = make_secrets()


def test_new_signing_key_is_one_and_another_each_time(run: Run) -> None:
    keys = {SigningKey.from_pem(run("new-signing-key")).kid for _ in range(2)}

    assert len(keys) == 2


def test_new_password_is_safe_in_urls_and_on_command_lines(run: Run) -> None:
    password = run("new-password").rstrip("\n")

    assert password.isalnum()
    assert len(password) == 48


def test_service_key_is_rotated_without_a_refused_token(run: Run, jwks: Path) -> None:
    """A mesh passes through three states: both keys are known, the new one is used, the old one is removed."""
    old = ServiceTokenSigner("agent", SigningKey.from_pem(SECRETS.service_keys["agent"])).token_for("memory")

    pem = run("new-service-key", "agent", "--jwks", str(jwks))
    new = ServiceTokenSigner("agent", SigningKey.from_pem(pem)).token_for("memory")
    both = ServiceTokenVerifier(parse_jwks(jwks.read_text()), service="memory")
    said = run("drop-service-keys", "agent", "--jwks", str(jwks), stdin=pem)
    one = ServiceTokenVerifier(parse_jwks(jwks.read_text()), service="memory")

    assert [both.service_of(token) for token in (old, new)] == ["agent", "agent"]
    assert one.service_of(new) == "agent"
    with pytest.raises(Unauthenticated):
        one.service_of(old)
    assert said == f"1 dropped, 5 left in {jwks}.\n"
    assert {key["mesh_service"] for key in orjson.loads(jwks.read_text())["keys"]} == set(SECRETS.service_keys)


def test_second_key_of_a_service_speaks_for_no_other(run: Run, jwks: Path) -> None:
    pem = run("new-service-key", "eval", "--jwks", str(jwks))
    forged = ServiceTokenSigner("gateway", SigningKey.from_pem(pem)).token_for("agent")

    verifier = ServiceTokenVerifier(parse_jwks(jwks.read_text()), service="agent")

    with pytest.raises(Unauthenticated):
        verifier.service_of(forged)


def test_keys_are_not_dropped_for_one_that_is_not_published(run: Run, jwks: Path) -> None:
    stranger = run("new-signing-key")
    before = jwks.read_text()

    said = run.faults("drop-service-keys", "agent", "--jwks", str(jwks), stdin=stranger)

    assert said == f"{jwks} does not hold the public part of this key of agent. Nothing was dropped."
    assert jwks.read_text() == before


def test_faults_are_one_sentence(run: Run, jwks: Path, tmp_path: Path) -> None:
    jwks.with_name("broken.json").write_text("{")
    (tmp_path / "file").touch()

    assert run.faults("drop-service-keys", "agent", "--jwks", str(jwks), stdin="hush") == (
        "Standard input is not an unencrypted private key in PEM."
    )
    assert run.faults("new-service-key", "agent", "--jwks", str(tmp_path / "none")) == (
        f"{tmp_path / 'none'} cannot be read: No such file or directory."
    )
    assert run.faults("new-service-key", "agent", "--jwks", str(jwks.with_name("broken.json"))) == (
        f"{jwks.with_name('broken.json')} is not JSON."
    )
    assert run.faults("--folder", str(tmp_path / "file" / "x")) == (
        f"{tmp_path / 'file' / 'x'} cannot be written: Not a directory."
    )


def test_dotenv_files_are_not_overwritten(run: Run, tmp_path: Path) -> None:
    run("--folder", str(tmp_path))
    before = (tmp_path / "auth.env").read_text()

    said = run.faults("--folder", str(tmp_path))

    assert said.startswith(f"{tmp_path} already holds secrets.")
    assert (tmp_path / "auth.env").read_text() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("--prefix", "Mesh"),
        ("--prefix", "-x"),
        ("--namespace", "a_b"),
        ("--database", "db"),
        ("--database", "user:pw@db:5432"),
        ("--database", "db:5432/a b"),
        ("--redis", "cache"),
        ("--skip", "auth"),
    ],
)
def test_argument_that_makes_no_sense_is_refused(
    run: Run, arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--format", "kubernetes", *arguments)

    assert ended.value.code == 2
    assert f"argument {arguments[0]}:" in capsys.readouterr().err
