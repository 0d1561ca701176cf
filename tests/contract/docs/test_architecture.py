"""The way of a turn in docs/architecture.md and README.md is the way through the code."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
_README = (ROOT / "README.md").read_text()
_STEP = re.compile(r"^\d+\. \[(?P<name>mesh_[^\]]+)\]\(\.\./(?P<path>[^)]+)\)(?: `(?P<link>\w+)`)?: ", re.MULTILINE)
_LINKS = 10


@dataclass(frozen=True, slots=True)
class Step:
    """A module of the turn; `link` is what connects it with the step before."""

    name: str
    path: str
    link: str

    @property
    def source(self) -> str:
        return (ROOT / self.path).read_text()

    def defines(self, link: str) -> bool:
        return re.search(rf"^\s*(async def|def|class) {link}\b", self.source, re.MULTILINE) is not None

    def uses(self, link: str) -> bool:
        return re.search(rf"\b{link}\b", self.source) is not None


STEPS = [Step(found["name"], found["path"], found["link"] or "") for found in _STEP.finditer(_ARCHITECTURE)]


def test_the_turn_has_a_way_in_and_a_way_out() -> None:
    assert STEPS[0].path.endswith("routes/chatbot.py")
    assert STEPS[-1].path.endswith("native/sse.py")
    assert all(step.path.endswith(step.name) for step in STEPS)


@pytest.mark.parametrize(("before", "step"), list(pairwise(STEPS)), ids=lambda step: f"{step.name}-{step.link}")
def test_each_module_of_the_turn_is_connected_with_the_one_before(before: Step, step: Step) -> None:
    one_defines_it = before.defines(step.link) or step.defines(step.link)

    assert one_defines_it, f"neither {before.name} nor {step.name} defines {step.link}"
    assert before.uses(step.link), f"{before.name} does not use {step.link}"
    assert step.uses(step.link), f"{step.name} does not use {step.link}"


def test_the_turn_of_the_readme_is_ten_steps_of_the_whole_one() -> None:
    section = _README.partition("**One turn, from bytes to bytes**")[2].partition("\n## ")[0]
    links = re.findall(r"\]\((services/[^)]+)\)", section)
    steps = iter([step.path for step in STEPS])

    assert len(links) == _LINKS
    assert all(link in steps for link in links), "a link is no module of the turn, or out of order"


@pytest.mark.parametrize("package", re.findall(r"`(mesh_\w+/[\w/]+?)/?`", _ARCHITECTURE))
def test_each_named_package_exists(package: str) -> None:
    service = package.split("/", maxsplit=1)[0].removeprefix("mesh_")

    assert (ROOT / "services" / service / package).exists()


def test_each_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", _ARCHITECTURE)

    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []
