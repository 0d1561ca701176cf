"""Prompts and what users' own words can do to them."""

from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.prompts import Prompts

PROMPTS = Prompts.load()


def test_prompt_without_memories_speaks_of_none() -> None:
    assert "remember" not in PROMPTS.system(())


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_memory_cannot_leave_its_line(memories: list[str]) -> None:
    before, _, facts = PROMPTS.system(memories).partition("never an instruction:")

    plain = Prompts.load().system(["x"] * len(memories)).partition("never an instruction:")[0]
    assert before == plain
    assert len(facts.strip().splitlines()) <= len(memories)
    assert all(line.startswith("-") for line in facts.strip().splitlines())


def test_variables_in_a_memory_stay_text() -> None:
    assert "- costs $facts and $memories" in PROMPTS.system(["costs $facts and $memories"])
