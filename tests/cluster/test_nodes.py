"""Faults of nodes: drained for maintenance, and disconnected from the network."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest

from cluster.kubectl import eventually, is_ready
from cluster.processes import run, run_command
from cluster.release import LEASE_TTL_S, Release
from cluster.report import Figures
from cluster.storm import note, storm
from cluster.verdict import keeps_promises

_CUT_S: Final = 60.0


@pytest.fixture
async def node(mesh: Release) -> AsyncIterator[str]:
    """A node with pods of the release and without any that the test needs throughout. Uncordoned at the end."""
    name = mesh.settings.cut_node
    await run("kubectl", "cordon", name)
    try:
        await _move_proxies(name)
        await run("kubectl", "uncordon", name)
        # Distributes the pods over both nodes again.
        await mesh.kubectl.run("rollout", "restart", "deployment", "--selector", "app.kubernetes.io/name=mesh")
        await mesh.settled()
        yield name
    finally:
        await run("kubectl", "uncordon", name)


async def test_drain_of_a_node_keeps_budgets_and_fails_no_request(mesh: Release, figures: Figures, node: str) -> None:
    async with storm(await mesh.url(), await mesh.marks(), users=10, streams=40, lease_ttl_s=LEASE_TTL_S) as one:
        begun_s = time.monotonic()
        flags = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")
        await run("kubectl", "drain", node, *flags, timeout_s=260)
        await mesh.settled()
        note(one, "restart", f"drain of {node}", begun_s)

    keeps_promises(figures, one, "drain of a node")
    assert not one.failed


async def test_node_cut_off_for_a_minute_loses_nothing(mesh: Release, figures: Figures, node: str) -> None:
    if not mesh.settings.node_cut or not mesh.settings.node_heal:
        pytest.skip("NODE_CUT and NODE_HEAL say no commands that cut a node off")
    async with storm(await mesh.url(), await mesh.marks(), users=10, streams=40, lease_ttl_s=LEASE_TTL_S) as one:
        begun_s = time.monotonic()
        await run_command(mesh.settings.node_cut)
        try:
            # The minute is the fault itself, not a wait for a condition.
            await asyncio.sleep(_CUT_S)
        finally:
            await run_command(mesh.settings.node_heal)
        await eventually(f"{node} is ready", lambda: _is_node_ready(mesh, node), within_s=120)
        await mesh.settled()
        note(one, "partition", f"{node}", begun_s)

    keeps_promises(figures, one, "node cut off for 60 s")


async def _is_node_ready(mesh: Release, node: str) -> bool:
    return is_ready(await mesh.kubectl.get("node", node))


async def _move_proxies(node: str) -> None:
    """Moves the Gateway's proxies that are on this node to other nodes."""
    chosen = ("--selector", "app.kubernetes.io/managed-by=envoy-gateway", f"--field-selector=spec.nodeName={node}")
    await run("kubectl", "delete", "pods", "--all-namespaces", *chosen, timeout_s=120)
    await run(
        "kubectl",
        "wait",
        "--for=condition=Available",
        "deployment",
        "--all-namespaces",
        *chosen[:2],
        "--timeout=120s",
        timeout_s=130,
    )
