"""The licence and the version are the same wherever they are declared."""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
import yaml

from deploy.programs import ROOT

pytestmark = pytest.mark.deploy

LICENCE: Final = "Apache-2.0"
# The hash of https://www.apache.org/licenses/LICENSE-2.0.txt.
APACHE_2_SHA256: Final = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
PROJECTS: Final = sorted(
    [ROOT / "pyproject.toml", ROOT / "proto/pyproject.toml", *ROOT.glob("services/*/pyproject.toml")]
)
CHART: Final = yaml.safe_load((ROOT / "deploy/helm/mesh/Chart.yaml").read_text())


def _project(path: Path) -> dict[str, str]:
    project: dict[str, str] = tomllib.loads(path.read_text())["project"]
    return project


def test_licence_is_the_whole_text() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_SHA256


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_python_projects_declare_the_licence(path: Path) -> None:
    assert _project(path)["license"] == LICENCE


def test_chart_and_images_declare_the_licence() -> None:
    labels = re.findall(r'org\.opencontainers\.image\.licenses="([^"]*)"', (ROOT / "services/Dockerfile").read_text())

    assert CHART["annotations"]["artifacthub.io/license"] == LICENCE
    assert labels == [LICENCE]


def test_changelog_describes_the_version_of_the_project_and_the_chart() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    version = _project(ROOT / "pyproject.toml")["version"]

    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", headings[1])
    assert CHART["version"] == CHART["appVersion"] == version
