"""The workflows for GitHub Actions pass actionlint and have the least possible privileges."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml
from mesh_common.grpc.edges import SERVICES

from deploy.programs import ROOT, MissingProgram, program, run

FOLDER: Final = ROOT / ".github"
WORKFLOWS: Final = sorted((FOLDER / "workflows").glob("*.yml"))
_PINNED: Final = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
# Text from outsiders (a title, a branch name) would be executed as part of a script.
_INTERPOLATED: Final = re.compile(r"\${{")


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    parsed: dict[str | bool, Any] = yaml.safe_load(request.param.read_text())
    # YAML 1.1 reads the key `on` as true.
    return {"on" if key is True else str(key): value for key, value in parsed.items()}


def test_actionlint_has_nothing_to_say() -> None:
    try:
        shellcheck = program("shellcheck")
        checked = run("actionlint", "-shellcheck", shellcheck, *map(str, WORKFLOWS))
    except MissingProgram as error:
        pytest.skip(str(error))

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_with_their_version_in_a_comment(path: Any) -> None:
    used = [line.strip().removeprefix("- ") for line in path.read_text().splitlines() if "uses:" in line]

    assert used
    assert [line for line in used if not _PINNED.match(line)] == []


def test_an_action_has_one_commit_everywhere() -> None:
    used = {match for path in WORKFLOWS for match in re.findall(r"uses: (\S+)@(\S+)", path.read_text())}

    assert len(used) == len({action for action, _ in used})


def test_a_workflow_may_read_at_most_unless_a_job_says_more(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for job in workflow["jobs"].values():
        writes = {scope for scope, access in job.get("permissions", {}).items() if access == "write"}
        # Only jobs that run for a tag, pushed by people with that permission, may write.
        assert not writes or _only_for_tags(workflow, job)


def test_every_job_ends_by_itself_and_runs_do_not_pile_up(workflow: dict[str, Any]) -> None:
    assert "${{ github.ref }}" in workflow["concurrency"]["group"]
    assert all(0 < job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


def test_no_checkout_leaves_its_token_behind(workflow: dict[str, Any]) -> None:
    checkouts = [step for step in _steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]

    assert len(checkouts) == len(workflow["jobs"])
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_commands_take_values_from_their_environment_alone(workflow: dict[str, Any]) -> None:
    assert [step["run"] for step in _steps(workflow) if _INTERPOLATED.search(step.get("run", ""))] == []


def test_what_is_run_is_there(workflow: dict[str, Any]) -> None:
    commands = "\n".join(step["run"] for step in _steps(workflow) if "run" in step)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake ([a-z-]+)", commands)) <= targets
    paths = re.findall(r"(?<![\w./])(?:scripts|deploy)/[\w./-]+", commands)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_service_gets_an_image() -> None:
    job = yaml.safe_load((FOLDER / "workflows/images.yml").read_text())["jobs"]["image"]
    build = next(step["with"] for step in job["steps"] if step.get("id") == "build")

    assert sorted(job["strategy"]["matrix"]["service"]) == sorted(SERVICES)
    assert (build["provenance"], build["sbom"], build["platforms"]) == ("mode=max", True, "linux/amd64,linux/arm64")
    assert (ROOT / build["file"]).exists()


def test_updates_are_looked_for_where_versions_stand() -> None:
    updates = yaml.safe_load((FOLDER / "dependabot.yml").read_text())["updates"]

    folders = {update["package-ecosystem"]: ROOT / update["directory"].removeprefix("/") for update in updates}
    assert folders.keys() == {"github-actions", "pip", "docker", "docker-compose"}
    assert list(folders["pip"].glob("*.txt"))
    assert (folders["docker"] / "Dockerfile").exists()
    assert (folders["docker-compose"] / "docker-compose.yml").exists()


def _steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def _only_for_tags(workflow: dict[str, Any], job: dict[str, Any]) -> bool:
    triggers = workflow["on"]
    return job.get("if") == "github.ref_type == 'tag'" or (
        triggers.keys() == {"push"} and triggers["push"].keys() == {"tags"}
    )
