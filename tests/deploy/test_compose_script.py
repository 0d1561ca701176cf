"""scripts/compose: what it requires, what it creates, and what it runs."""

from pathlib import Path
from typing import Final

import pytest

from deploy.composed import copy_of_full_folder, run_script
from deploy.programs import ROOT

# Prints its arguments.
_ECHO: Final = "echo called:"


def test_production_does_not_start_without_secrets(tmp_path: Path) -> None:
    ran = run_script("run", "production", COMPOSE=_ECHO, SECRETS=str(tmp_path / "none"))

    assert (ran.returncode, ran.stdout) == (1, "")
    assert "auth.env" in ran.stderr
    assert "'make secrets' creates them" in ran.stderr
    assert not (tmp_path / "none").exists()


_PARTS: Final = ("agent.env", "migrate.env", "database-admin.env", "redis.env", "service-jwks.json")


@pytest.mark.parametrize("name", _PARTS)
@pytest.mark.parametrize("environment", ["development", "production"])
def test_a_set_with_a_hole_is_named_and_not_filled(tmp_path: Path, environment: str, name: str) -> None:
    folder = copy_of_full_folder(tmp_path)
    (folder / name).unlink()

    ran = run_script("run", environment, COMPOSE=_ECHO, SECRETS=str(folder))

    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"has no {name}:" in ran.stderr
    assert not (folder / name).exists()


def test_production_starts_with_a_password_for_grafana_of_its_own(tmp_path: Path) -> None:
    folders = [copy_of_full_folder(tmp_path / name) for name in ("a", "b")]
    for folder in folders:
        (folder / "grafana.env").unlink()

    ran = [run_script("run", "production", COMPOSE=_ECHO, SECRETS=str(folder)) for folder in folders]

    passwords = [(folder / "grafana.env").read_text() for folder in folders]
    assert [one.returncode for one in ran] == [0, 0]
    assert passwords[0] != passwords[1]
    assert all(len(password) > 60 for password in passwords)
    assert (folders[0] / "grafana.env").stat().st_mode & 0o777 == 0o600
    assert all(
        password.partition("=")[2].strip() not in one.stdout + one.stderr
        for password, one in zip(passwords, ran, strict=True)
    )


def test_development_makes_its_secrets_once(tmp_path: Path) -> None:
    folder = tmp_path / "made"

    first = run_script("run", "development", COMPOSE=_ECHO, SECRETS=str(folder))
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    second = run_script("run", "development", COMPOSE=_ECHO, SECRETS=str(folder))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert b"@postgres:5432/mesh" in made["auth.env"]
    assert b"@redis:6379/0" in made["gateway.env"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def test_only_what_containers_read_as_files_is_open_within_the_closed_folder(tmp_path: Path) -> None:
    folder = copy_of_full_folder(tmp_path)
    folder.chmod(0o755)

    run_script("run", "production", COMPOSE=_ECHO, SECRETS=str(folder), COMPOSE_PROFILES="edge")

    assert folder.stat().st_mode & 0o777 == 0o700
    readable = {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.stat().st_mode & 0o004}
    assert readable >= {"service-jwks.json", "tls/tls.crt", "tls/tls.key"}
    # The copy of the tests' own file keeps its mode.
    assert readable - {"grafana.env"} == {"service-jwks.json", "tls/tls.crt", "tls/tls.key"}


def test_production_takes_no_certificate_but_the_operators(tmp_path: Path) -> None:
    folder = copy_of_full_folder(tmp_path)
    (folder / "tls/tls.key").unlink()

    ran = run_script("run", "production", COMPOSE=_ECHO, SECRETS=str(folder), COMPOSE_PROFILES="edge")

    assert (ran.returncode, ran.stdout) == (1, "")
    assert "has no tls/tls.key: put the certificate and key of your address there" in ran.stderr


def test_development_makes_a_certificate_for_localhost(tmp_path: Path) -> None:
    folder = copy_of_full_folder(tmp_path)
    for path in (folder / "tls").iterdir():
        path.unlink()

    ran = run_script("run", "development", COMPOSE=_ECHO, SECRETS=str(folder), COMPOSE_PROFILES="edge")

    assert ran.returncode == 0, ran.stderr
    assert (folder / "tls/tls.crt").read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_files_are_given_in_the_order_in_which_they_win(tmp_path: Path) -> None:
    folder = copy_of_full_folder(tmp_path)

    ran = run_script(
        *("run", "development", "gateway"),
        COMPOSE=_ECHO,
        SECRETS=str(folder),
        MESH_TRACES_ENDPOINT="https://traces.example.com",
        COMPOSE_OVERRIDE="/my own.yml",
    )

    called = ran.stdout.partition("called: ")[2].splitlines()[0]
    base = "deploy/compose/"
    assert called == (
        f"--env-file {folder}/migrate.env --env-file {folder}/database-admin.env"
        f" --file {base}docker-compose.yml --file {base}development.yml --file {base}traces.yml --file /my own.yml"
        " up --detach --remove-orphans --wait --wait-timeout 300 gateway"
    )


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (("logs", "production", "agent"), "--profile * logs --follow --tail 200 agent"),
        (("stop", "production"), "--profile * down --remove-orphans"),
    ],
)
def test_other_commands(tmp_path: Path, arguments: tuple[str, ...], called: str) -> None:
    ran = run_script(*arguments, COMPOSE=_ECHO, SECRETS=str(copy_of_full_folder(tmp_path)))

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.rstrip().endswith(f"--file deploy/compose/docker-compose.yml {called}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give a command (run, stop, logs, config) and an environment (development, production)"),
        (("run", "staging"), "ENV must be development or production, not 'staging'"),
        (("up", "development"), "unknown command 'up': use run, stop, logs or config"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    ran = run_script(*arguments, COMPOSE=_ECHO)

    assert (ran.returncode, ran.stderr) == (1, f"compose: {sentence}\n")


@pytest.mark.parametrize(
    ("programs", "sentence"),
    [
        ({}, "neither docker nor docker-compose is installed"),
        ({"docker": "exit 1"}, "docker has no Compose plugin: install it"),
        ({"docker": '[ "$1 $2" = "compose version" ]'}, "no container engine answers docker compose"),
        ({"docker-compose": "echo 1.29.2"}, "neither docker nor docker-compose is installed"),
        ({"docker-compose": '[ "$1" = version ] && echo 2.30.0'}, "no container engine answers docker-compose"),
    ],
    ids=["nothing", "docker alone", "no engine", "docker-compose 1", "docker-compose without engine"],
)
def test_what_is_missing_is_named(tmp_path: Path, programs: dict[str, str], sentence: str) -> None:
    for name in ("dirname", "grep"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    ran = run_script("config", "production", PATH=str(tmp_path))

    assert ran.returncode == 1
    assert ran.stderr.startswith(f"compose: {sentence}")


def test_git_ignores_where_secrets_are_made() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert {".mesh/", "secrets/"} <= set(ignored)
