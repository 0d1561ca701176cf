import socket

import pytest
from mesh_dev.errors import PortTakenError
from mesh_dev.ports import PORTS_PER_STACK, PortPlan, require_free
from support.net import free_port


def test_gateway_listens_on_the_base_itself() -> None:
    plan = PortPlan(21000)

    assert plan.gateway().api == 21000
    assert plan.gateway().metrics == 21001


def test_every_part_has_its_own_port() -> None:
    needed = PortPlan(21000).needed()

    assert len(needed) == 16
    assert len(set(needed.values())) == len(needed)


def test_second_replica_takes_no_port_of_the_first_stack() -> None:
    plan = PortPlan(21000)
    second = [getattr(plan, service)(1) for service in ("gateway", "auth", "agent", "memory", "eval")]

    ports = {port for service in second for port in (service.api, service.metrics)}

    assert ports == set(range(21020, 21030))
    assert ports.isdisjoint(plan.needed().values())
    assert max(ports) < 21000 + PORTS_PER_STACK


def test_taken_port_is_named_with_the_setting_that_moves_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(PortTakenError) as refusal:
            require_free({"valkey": port}, base=21000)

    assert str(refusal.value) == (
        f"port {port}, needed for valkey, is taken: stop what listens there, "
        "or set MESH_PORT_BASE to another base (it is 21000)"
    )


def test_port_that_listens_on_all_addresses_is_taken_too() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - the case under test
        taken.listen()

        with pytest.raises(PortTakenError):
            require_free({"model": taken.getsockname()[1]}, base=21000)


def test_free_ports_are_accepted() -> None:
    require_free({"model": free_port()}, base=21000)
