"""The instructions of the default assistant, in Markdown; read once, when the process starts."""

from pathlib import Path

from mesh_agent.plans.plan import Instructions

_FOLDER = Path(__file__).parent


def default_instructions() -> Instructions:
    return Instructions(system=_read("system"), memories=_read("memories"))


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.md").read_text(encoding="utf-8")
