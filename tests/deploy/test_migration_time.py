"""The time that the Job gives the migrations of all services, which run one after the other."""

import re
from typing import Final

import pytest
from mesh_common.database.migrate import BACKFILL_S

from deploy.helm import TRIAL, render
from deploy.manifests import Object, name_of
from deploy.programs import ROOT

pytestmark = pytest.mark.deploy

_SERVICES: Final = 4
# What is left to each service for starting its container and changing its schema.
_SCHEMA_S: Final = 60.0


@pytest.fixture(scope="module")
def job() -> Object:
    [job] = [job for job in render(TRIAL).of("Job") if "-migrate-" in name_of(job)]
    spec: Object = job["spec"]
    return spec


def test_every_service_is_migrated_before_the_deadline_however_long_its_rows_take(job: Object) -> None:
    pod = job["template"]["spec"]
    migrations = [each for each in (*pod["initContainers"], *pod["containers"]) if "migrate" in each["args"]]

    assert len(migrations) == _SERVICES
    assert job["activeDeadlineSeconds"] > _SERVICES * (BACKFILL_S + _SCHEMA_S)


def test_the_upgrade_waits_as_long_as_the_job_may_take(job: Object) -> None:
    timeouts_min = re.findall(r"--timeout (\d+)m", (ROOT / "docs/operations/upgrade.md").read_text())

    assert timeouts_min
    assert min(map(int, timeouts_min)) * 60 >= job["activeDeadlineSeconds"]
