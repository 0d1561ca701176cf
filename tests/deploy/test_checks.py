"""Each check finds the fault for which it exists."""

import pytest

from deploy.checks.every import CHECKS
from deploy.checks.schemas import CUSTOM, objects_follow_their_schema
from deploy.draft import Draft
from deploy.helm import release_of
from deploy.mutations import MUTATIONS


def test_every_check_is_broken_once() -> None:
    assert set(MUTATIONS) == set(CHECKS)


@pytest.mark.parametrize("check", MUTATIONS)
def test_check_finds_its_fault(check: str) -> None:
    value_set, mutate = MUTATIONS[check]
    draft = Draft(release_of(value_set))
    before = set(CHECKS[check](draft.release()))

    mutate(draft)

    assert set(CHECKS[check](draft.release())) - before


def test_an_unknown_kind_is_a_fault() -> None:
    draft = Draft(release_of("default"))

    draft.find("Service")["kind"] = "Servise"

    assert any("there is no kind Servise in v1" in fault for fault in objects_follow_their_schema(draft.release()))


@pytest.mark.skipif(
    not CUSTOM.exists(), reason="no schemas of custom resources: scripts/deploy-tools.sh needs Go for them"
)
def test_unknown_fields_of_custom_resources_are_faults() -> None:
    draft = Draft(release_of("keda"))

    draft.find("ScaledObject")["spec"]["maxReplicas"] = 3

    assert any("maxReplicas" in fault for fault in objects_follow_their_schema(draft.release()))
