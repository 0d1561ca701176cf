"""The README's commands do what it says."""

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
from mesh_dev.stack import Stack

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
