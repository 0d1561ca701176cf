"""The methods of every path. The router knows only routes, and names the methods of one in `Allow`."""

from collections.abc import Iterable
from re import Pattern
from typing import Final

from starlette.routing import Route

_GETS: Final = frozenset({"GET", "HEAD"})


class PathMethods:
    """The methods of each path template. Every path has OPTIONS, and HEAD if it has GET."""

    def __init__(self) -> None:
        self._patterns: dict[str, Pattern[str]] = {}
        self._by_template: dict[str, frozenset[str]] = {}
        self._literal: dict[str, frozenset[str]] = {}

    def add(self, routes: Iterable[Route]) -> None:
        for route in routes:
            template = route.path_format
            self._patterns[template] = route.path_regex
            before = self._by_template.get(template, frozenset({"OPTIONS"}))
            self._by_template[template] = before | _with_head(route.methods or set())
            if "{" not in template:
                self._literal[template] = self._by_template[template]

    def of_literal(self, path: str) -> frozenset[str] | None:
        """The methods of a path without parameters; None for all others."""
        return self._literal.get(path)

    def of(self, path: str) -> frozenset[str] | None:
        """The methods of the template with the fewest parameters that the path matches; None if it matches none."""
        matching = [template for template, pattern in self._patterns.items() if pattern.match(path)]
        if not matching:
            return None
        return self._by_template[min(matching, key=lambda template: template.count("{"))]


def allow(methods: frozenset[str]) -> str:
    """The value of the header `Allow`."""
    return ", ".join(sorted(methods))


def _with_head(methods: Iterable[str]) -> frozenset[str]:
    named = frozenset(methods)
    return named | _GETS if "GET" in named else named
