"""Entitlements from auth of this release and of the one before."""

import pytest
from mesh.auth.v1 import auth_pb2 as pb
from mesh_agent.clients.auth import entitlements_from
from mesh_agent.domain.entitlements import Entitlements

EVERY = pb.AllowedNames(all=True)


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        (EVERY, None),
        (pb.AllowedNames(), ()),
        (pb.AllowedNames(names=["a", "b"]), ("a", "b")),
        (pb.AllowedNames(all=True, names=["a"]), None),
    ],
)
def test_explicit_names_count(allowed: pb.AllowedNames, names: tuple[str, ...] | None) -> None:
    received = pb.Entitlements(allowed_models=allowed, allowed_tools=allowed, models=["older"], tools=["older"])

    found = entitlements_from(received)

    assert (found.models, found.tools) == (names, names)


@pytest.mark.parametrize(("older", "names"), [([], None), (["a"], ("a",))])
def test_lists_of_the_release_before_mean_all_when_they_are_empty(
    older: list[str], names: tuple[str, ...] | None
) -> None:
    found = entitlements_from(pb.Entitlements(models=older, tools=older))

    assert (found.models, found.tools) == (names, names)


def test_bounds_that_are_absent_are_no_limits() -> None:
    assert entitlements_from(pb.Entitlements(allowed_models=EVERY, allowed_tools=EVERY)) == Entitlements()
