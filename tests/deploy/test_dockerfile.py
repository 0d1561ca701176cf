"""The Dockerfiles, as far as they can be checked without a build."""

import re
import tomllib
from typing import Final

import pytest
from mesh_common.grpc.edges import SERVICES

from deploy.programs import ROOT, run

pytestmark = pytest.mark.deploy

DOCKERFILE: Final = ROOT / "services/Dockerfile"
STAND_INS: Final = sorted((ROOT / "tests/cluster/images").glob("*/Dockerfile"))
RECIPES: Final = [DOCKERFILE, *STAND_INS]
# An option of RUN or COPY, a continued line, a comment.
_CONTINUED: Final = re.compile(r"\\\n\s*")
_COPY: Final = re.compile(r"^COPY (?!--from)(?:--\S+ )*(?P<sources>.+) \S+$", re.MULTILINE)


def _text(path: object) -> str:
    return _CONTINUED.sub(" ", ROOT.joinpath(str(path)).read_text())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(path: object) -> None:
    done = run("hadolint", str(path))

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_lock_and_a_command(service: str) -> None:
    commands = dict(re.findall(r"^FROM service AS serve-(\w+)\nCMD (.+)$", DOCKERFILE.read_text(), re.MULTILINE))

    assert (ROOT / f"requirements/{service}.txt").exists()
    assert commands[service] == f'["-m", "mesh_{service}", "serve"]'
    assert set(commands) == set(SERVICES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_nothing_is_installed_that_no_lock_names(path: object) -> None:
    installs = re.findall(r"pip install [^&\n]+", _text(path))

    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-index --no-deps" in install, install


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_the_last_stage_runs_as_a_number_and_installs_nothing(path: object) -> None:
    stages = re.split(r"^FROM ", _text(path), flags=re.MULTILINE)[1:]
    users = re.findall(r"^USER (.+)$", _text(path), re.MULTILINE)

    assert [user for user in users if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)] == []
    assert len(users) == 1
    installing = [stage.splitlines()[0] for stage in stages if "pip install" in stage]
    copied = re.findall(r"COPY --from=(\w+) (\S+)", _text(path))
    assert {stage.rpartition(" AS ")[2] for stage in installing} >= {stage for stage, _ in copied}
    assert all(source.startswith(("/install", "/wheels", "/programs")) for _, source in copied)


def test_dependencies_are_installed_before_our_code_comes() -> None:
    """Otherwise every change of the code would download and compile them again."""
    stage = re.search(r"^FROM \S+ AS dependencies\n(.*?)^FROM", DOCKERFILE.read_text(), re.MULTILINE | re.DOTALL)

    assert stage is not None
    assert re.findall(r"^COPY (.+)$", stage[1], re.MULTILINE) == ["requirements/${SERVICE}.txt /requirements/"]


def test_what_is_copied_is_not_ignored() -> None:
    allowed = [line[1:] for line in _ignored() if line.startswith("!")]
    sources = {source for path in RECIPES for found in _COPY.finditer(_text(path)) for source in found[1].split()}

    assert sources
    assert [source for source in sources if not source.startswith(tuple(allowed))] == []


def test_the_context_is_empty_but_for_what_is_allowed() -> None:
    rules = _ignored()

    assert rules[0] == "*"
    assert {"**/__pycache__", "services/dev", "services/*/.env*"} <= set(rules)


def test_the_builders_lock_has_what_our_packages_are_built_with() -> None:
    locked = re.findall(r"^(\S+)==", (ROOT / "requirements/build.txt").read_text(), re.MULTILINE)
    projects = [ROOT / "proto/pyproject.toml", *ROOT.glob("services/*/pyproject.toml")]
    wanted = {
        re.split(r"[<>=]", requirement)[0]
        for project in projects
        for requirement in tomllib.loads(project.read_text())["build-system"]["requires"]
    }

    assert wanted <= set(locked)


def test_no_registry_of_python_packages_is_written_down() -> None:
    for path in RECIPES:
        assert not re.search(r"index-url|trusted-host|https?://", path.read_text()), path


def _ignored() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
