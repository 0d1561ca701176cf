"""These tests require the deployment tools. A missing one is reported once, in one line."""

from typing import Any

import pytest
from hypothesis import settings

from deploy.composed import ENVIRONMENTS, Service, configuration
from deploy.programs import MissingProgram, program

# `make deploy-check` tries more combinations of values than `make check` has time for.
settings.register_profile("deploy-check", max_examples=400)


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    try:
        program("helm")
    except MissingProgram as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def composed(environment: str) -> dict[str, Any]:
    return configuration(environment, COMPOSE_PROFILES="edge")


@pytest.fixture(scope="module")
def services(composed: dict[str, Any]) -> dict[str, Service]:
    found: dict[str, Service] = composed["services"]
    return found
