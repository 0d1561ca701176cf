"""The chart through the real helm."""

from functools import cache
from pathlib import Path
from typing import Final

from deploy.go_yaml import dump, load_all
from deploy.manifests import Release, Values, given_in, merged, parse
from deploy.programs import ROOT, run

CHART: Final = ROOT / "deploy/helm/mesh"
# The oldest release that the chart expects in use, the one that the cluster tests use, and the third newest.
KUBERNETES_VERSIONS: Final = ("1.32.0", "1.34.0", "1.35.0")
TESTED_VERSION: Final = "1.34.0"
NAME: Final = "mesh"
NAMESPACE: Final = "mesh"
_SUFFIX: Final = "-values.yaml"
# The minimal values of a trial. Tests add the values that they are about.
TRIAL: Final[Values] = {"secrets": {"create": True}, "database": {"host": "postgres"}, "redis": {"host": "valkey"}}


class Refused(Exception):
    """Helm's message on standard error."""


def value_sets() -> dict[str, Path]:
    """The chart's value sets by name: those in `ci`, and the examples next to values.yaml."""
    sets = {path.name.removesuffix(_SUFFIX): path for path in CHART.glob(f"ci/*{_SUFFIX}")}
    examples = {path.stem.removeprefix("values-"): path for path in CHART.glob("values-*.yaml")}
    return dict(sorted((sets | examples).items()))


@cache
def defaults() -> Values:
    return _read(CHART / "values.yaml")


@cache
def text_of(value_set: str, version: str = TESTED_VERSION) -> str:
    """A value set as Helm renders it, once per session."""
    return template(_read(value_sets()[value_set]), version=version)


@cache
def release_of(value_set: str, version: str = TESTED_VERSION) -> Release:
    return _release(text_of(value_set, version), _read(value_sets()[value_set]), NAME)


def render(changes: Values, *, name: str = NAME, chart: Path = CHART) -> Release:
    """The chart with `changes` on top of its defaults. Raises: Refused."""
    return _release(template(changes, name=name, chart=chart), changes, name)


def _release(text: str, changes: Values, name: str) -> Release:
    return Release(parse(text), merged(defaults(), changes), name, NAMESPACE, given_in(text))


def template(changes: Values, *, version: str = TESTED_VERSION, name: str = NAME, chart: Path = CHART) -> str:
    options = ("--namespace", NAMESPACE, "--kube-version", version, "--values", "-")
    done = run("helm", "template", name, str(chart), *options, stdin=dump(changes))
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def _read(path: Path) -> Values:
    return next(load_all(path.read_text()), {})
