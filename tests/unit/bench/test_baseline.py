"""The comparison of a commit with another one."""

import os
from pathlib import Path

from bench.baseline import check_out, compared


def test_ratios_are_of_pairs_that_were_measured_one_after_the_other() -> None:
    """The machine was half as fast for the second pair; both pairs have the same ratio."""
    before = [dict.fromkeys(("gateway", "agent", "auth", "memory", "eval", "postgres", "total"), cpu) for cpu in (4, 8)]
    after = [{name: cpu / 2 for name, cpu in one.items()} for one in before]

    pairs = [(one | {"valkey": 0.0}, two | {"valkey": 0.1}) for one, two in zip(before, after, strict=True)]
    comparison = compared("abc", pairs)

    assert (comparison.ratio["total"].lowest, comparison.ratio["total"].highest) == (0.5, 0.5)
    assert "valkey" not in comparison.ratio
    assert comparison.as_json()["commit"] == "abc"


def test_the_services_of_a_commit_come_before_those_installed(tmp_path: Path) -> None:
    path = check_out("HEAD", tmp_path).split(os.pathsep)

    assert all(Path(entry).is_dir() for entry in path)
    assert [next(Path(entry).glob("mesh_*")).name for entry in path if Path(entry).parent.name == "services"] == [
        "mesh_admin",
        "mesh_agent",
        "mesh_auth",
        "mesh_common",
        "mesh_dev",
        "mesh_eval",
        "mesh_gateway",
        "mesh_memory",
    ]
