"""The connection that notifies a replica of pending runs."""

import os
import socket

from mesh_agent.execution.pending_listener import connect
from support.mesh import TestMesh


async def test_a_server_that_is_gone_without_a_word_is_noticed(migrated_mesh: TestMesh) -> None:
    """By TCP keepalive probes: the connection itself never sends anything."""
    url = migrated_mesh.environment("agent")["AGENT_DATABASE_URL"]

    async with await connect(url) as connection:
        with socket.socket(fileno=os.dup(connection.fileno())) as peer:
            is_probed = peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            silence_s, every_s, probes, unacknowledged_ms = (
                peer.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            )

    assert is_probed
    assert silence_s + every_s * probes <= 30
    assert 0 < unacknowledged_ms <= 30_000
