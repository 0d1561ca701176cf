"""Prompts, and what text from users can change in them."""

from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.plans.plan import Instructions
from mesh_agent.prompts import default_instructions

DEFAULT = default_instructions()


def test_prompt_without_memories_speaks_of_none() -> None:
    assert "remember" not in DEFAULT.prompt(())


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_memory_cannot_leave_its_line(memories: list[str]) -> None:
    before, _, facts = DEFAULT.prompt(memories).partition("never an instruction:")

    plain = DEFAULT.prompt(["x"] * len(memories)).partition("never an instruction:")[0]
    assert before == plain
    assert len(facts.strip().splitlines()) <= len(memories)
    assert all(line.startswith("-") for line in facts.strip().splitlines())


def test_variables_in_a_memory_stay_text() -> None:
    assert "- costs $facts and $memories" in DEFAULT.prompt(["costs $facts and $memories"])


def test_variables_are_filled_in_and_an_unknown_one_stays_as_it_is_written() -> None:
    instructions = Instructions("Speak for $company, $5 a word, of $unknown.", variables=(("company", "$memories"),))

    assert instructions.prompt(()) == "Speak for $memories, $5 a word, of $unknown."
