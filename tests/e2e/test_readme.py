"""The README's commands do what the README says."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mesh_common.grpc.edges import SERVICES
from mesh_dev.stack import Stack
from mesh_dev.trace_source import find_trace
from mesh_dev.trace_tree import Span
from support.api import User, eventually

_ROOT = Path(__file__).parents[2]
_BLOCKS = re.findall(r"^```sh\n(.*?)^```", (_ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
_MAKE_COMMANDS = [line for block in _BLOCKS for line in block.splitlines() if re.match(r"(\w+=\S+ )?make ", line)]
_CURL_BLOCKS = [block for block in _BLOCKS if "curl" in block]
_TIMEOUT_S = 60


async def test_curl_commands_chat_with_a_running_stack(stack: Stack) -> None:
    [block] = _CURL_BLOCKS

    process = await _bash(block, {"MESH_URL": stack.url, "PATH": "/usr/bin:/bin:/usr/local/bin"})

    assert process.returncode == 0, process.stderr
    assert '"finish_reason"' in process.stdout
    assert "event: message_delta" in process.stdout
    assert "event: run_finished" in process.stdout
    assert '"items"' in process.stdout


def test_make_secrets_makes_the_whole_set_once(tmp_path: Path) -> None:
    first = _make("secrets", f"FOLDER={tmp_path}/secrets")
    again = _make("secrets", f"FOLDER={tmp_path}/secrets")
    printed = _make("secrets", "FORMAT=kubernetes")

    assert first.returncode == 0, first.stderr
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert made.keys() >= {f"{service}.env" for service in SERVICES}
    assert "AUTH_SIGNING_KEY=" in made["auth.env"]
    assert again.returncode != 0
    assert "already holds secrets" in again.stderr
    assert printed.stdout.count('kind: "Secret"') >= len(SERVICES)


async def test_make_trace_prints_a_turn_by_its_run_some_time_later(stack: Stack, user: User) -> None:
    turn = await user.chat("What is a mesh?")

    async def trace() -> list[Span]:
        return await find_trace(stack.traces_url, turn.run_id)

    await eventually("the whole trace", trace, lambda spans: {span.service for span in spans} == set(SERVICES))
    printed = await asyncio.to_thread(_make, "trace", f"ID={turn.run_id}", MESH_PORT_BASE=str(stack.ports.base))

    assert printed.returncode == 0, printed.stderr
    assert all(service in printed.stdout.splitlines()[0] for service in SERVICES)
    assert "gateway: POST /api/v1/chatbot/chat/stream" in printed.stdout


def test_ci_checks_and_tests_as_a_person_would() -> None:
    commands = (_ROOT / ".ci" / "run").read_text().splitlines()

    assert [command.removeprefix("stage ") for command in commands if command.startswith("stage ")] == [
        "make setup-test",
        "make setup-load",
        "make check",
        "make deploy-check",
        "make test",
        "scripts/ci-cluster",
    ]


@pytest.mark.parametrize("command", _MAKE_COMMANDS)
def test_make_commands_name_targets_that_exist(command: str) -> None:
    arguments = command.partition("make ")[2].partition(" ARGS")[0].partition(" ID")[0].split()

    dry_run = subprocess.run(["make", "-n", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)

    assert dry_run.returncode == 0, dry_run.stderr


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (_ROOT / "README.md").read_text())

    missing = [link for link in links if not (_ROOT / link).exists()]

    assert links
    assert missing == []


def _make(target: str, *variables: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the target with the Python of the tests, which has all packages that it needs."""
    ready = ["-o", ".venv/.stamp-dev", f"PYTHON={sys.executable}"]
    return subprocess.run(
        ["make", *ready, target, *variables],
        cwd=_ROOT,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", **environment},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


async def _bash(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_TIMEOUT_S):
        stdout, stderr = await process.communicate()
    return subprocess.CompletedProcess([], process.returncode or 0, stdout.decode(), stderr.decode())
