"""Processes that run tests concurrently use different ports."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.net import PortRange


@pytest.fixture
def ports() -> Iterator[PortRange]:
    claimed = PortRange.claim()
    yield claimed
    claimed.release()


def test_a_range_that_is_taken_is_left_alone(ports: PortRange) -> None:
    other = PortRange.claim()

    other.release()

    assert other.base != ports.base


def test_ports_are_given_out_in_turn(ports: PortRange) -> None:
    assert ports.port() < ports.port() < ports.port()


def test_a_port_that_is_listened_on_is_left_out(ports: PortRange) -> None:
    taken = ports.port() + 1

    with closing(socket.create_server(("127.0.0.1", taken))):
        given = ports.port()

    assert given == taken + 1


def test_a_stack_on_a_base_keeps_others_away(ports: PortRange) -> None:
    first = ports.stack_base()

    with closing(socket.create_server(("127.0.0.1", first + 110))):
        second = ports.stack_base()

    assert second == first + 200
