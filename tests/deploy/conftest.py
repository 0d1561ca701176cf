"""The programs are a part of these tests: a missing one is told in one line, once."""

import pytest
from hypothesis import settings

from deploy.programs import MissingProgram, program

# `make deploy-check` looks at more combinations of values than `make check` has time for.
settings.register_profile("deploy-check", max_examples=400)


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    try:
        program("helm")
    except MissingProgram as error:
        pytest.fail(str(error), pytrace=False)
