"""Every value set of the chart passes every check and renders as its golden file."""

import pytest

from deploy.checks.every import CHECKS
from deploy.goldens import FOLDER, difference
from deploy.helm import release_of, value_sets

_PROMISED = {"default", "minimal", "ha", "external", "tls", "keda", "mesh"}


def test_the_sets_that_are_promised_are_there() -> None:
    assert set(value_sets()) >= _PROMISED


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value_set", value_sets())
def test_value_set_passes(value_set: str, check: str) -> None:
    release = release_of(value_set)

    faults = list(CHECKS[check](release))

    assert faults == []


@pytest.mark.parametrize("value_set", value_sets())
def test_value_set_renders_as_its_golden(value_set: str) -> None:
    found = difference(value_set)

    if found:
        pytest.fail(found, pytrace=False)


def test_every_golden_is_of_a_set() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(value_sets())
