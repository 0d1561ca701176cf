"""Reports the tools of a server that the agent does not take."""

from collections.abc import Mapping

import structlog
from prometheus_client import Gauge

log = structlog.get_logger()


class Refused:
    """Of one server. A fault is logged once, and again when it changes; the gauge counts them."""

    def __init__(self, server: str, gauge: Gauge, event: str) -> None:
        self._server = server
        self._gauge = gauge
        self._event = event
        self._known: Mapping[str, str] = {}

    def report(self, refused: Mapping[str, str]) -> None:
        """`refused`: names of tools, with why."""
        self._gauge.labels(self._server).set(len(refused))
        for name, fault in refused.items():
            if self._known.get(name) != fault:
                log.error(self._event, server=self._server, tool=name, fault=fault)
        self._known = dict(refused)
