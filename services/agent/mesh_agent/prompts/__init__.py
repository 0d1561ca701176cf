"""Prompts in Markdown with `$variables` (string.Template), read once when the process starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Prompts:
    system_template: Template
    memories_template: Template

    @classmethod
    def load(cls) -> "Prompts":
        return cls(_read("system"), _read("memories"))

    def system(self, memories: Sequence[str]) -> str:
        """The system message. A memory is one line each, so that it cannot pass for a heading or another speaker."""
        facts = "\n".join(f"- {' '.join(memory.split())}" for memory in memories)
        told = self.memories_template.substitute(facts=facts) if facts else ""
        return self.system_template.substitute(memories=told).strip()


def _read(name: str) -> Template:
    return Template((_FOLDER / f"{name}.md").read_text(encoding="utf-8"))
