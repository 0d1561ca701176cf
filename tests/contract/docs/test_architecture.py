"""The pictures and lists in docs/architecture.md and README.md agree with the code."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from mesh_common.grpc.edges import ALLOWED_CALLERS, SERVICES

ROOT = Path(__file__).parents[3]
_ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
_README = (ROOT / "README.md").read_text()
_STEP = re.compile(r"^\d+\. \[(?P<name>mesh_[^\]]+)\]\(\.\./(?P<path>[^)]+)\)(?: `(?P<link>\w+)`)?: ", re.MULTILINE)
_ARROW = re.compile(r"^\s+(?P<tails>.+?) (?:-- .+ )?--> (?P<heads>.+)$", re.MULTILINE)
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


def _names(nodes: str) -> list[str]:
    """The names in `client[client apps]` or `auth & memory`."""
    return [node.partition("[")[0] for node in nodes.split(" & ")]


def test_the_picture_has_the_calls_that_are_allowed() -> None:
    picture = _ARCHITECTURE.partition("flowchart LR\n")[2].partition("```")[0]
    arrows = list(_ARROW.finditer(picture))
    drawn = {(tail, head) for arrow in arrows for tail in _names(arrow["tails"]) for head in _names(arrow["heads"])}
    allowed = {
        (caller, rpc.removeprefix("/mesh.").partition(".")[0])
        for rpc, callers in ALLOWED_CALLERS.items()
        for caller in callers
    }

    assert len(arrows) == len(picture.splitlines()), "a line of the picture was not read"
    assert {edge for edge in drawn if set(edge) <= set(SERVICES)} == allowed


def test_the_turn_has_a_way_in_and_a_way_out() -> None:
    assert STEPS[0].path.endswith("routes/chatbot.py")
    assert STEPS[-1].path.endswith("native/events.py")
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
