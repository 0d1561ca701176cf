"""The part of a thread sent to a model: within its budgets, and as much as fits."""

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.messages.utils import count_tokens_approximately
from mesh_agent.domain import Role, Said
from mesh_agent.graph.window import fitting_prompt, window

# Failed runs leave questions without answers, so the roles need not alternate.
_histories = st.lists(st.builds(Said, st.sampled_from(Role), st.text(max_size=60)), max_size=8)

LONG_HISTORY = [Said(role, role.value * 8) for role in (Role.USER, Role.ASSISTANT) * 4]


def _spoken(said: Said) -> BaseMessage:
    return HumanMessage(said.content) if said.role is Role.USER else ChatMessage(content=said.content, role="assistant")


@given(_histories, st.text(max_size=40), st.integers(0, 150), st.integers(0, 200))
@example(LONG_HISTORY, "Now", 150, 100)
@example(LONG_HISTORY, "Now", 100, 150)
def test_window_is_the_longest_history_that_fits_and_starts_with_the_user(
    oldest_first: list[Said], message: str, history_tokens: int, budget_tokens: int
) -> None:
    shown = window(
        "Be brief.",
        oldest_first[::-1],
        message,
        history_tokens=history_tokens,
        budget_tokens=budget_tokens,
    )

    head, *history, tail = shown
    assert (head, tail) == (SystemMessage("Be brief."), HumanMessage(message))
    least_tokens = count_tokens_approximately([head, tail])
    assert count_tokens_approximately(shown) <= max(budget_tokens, least_tokens)
    left_tokens = min(history_tokens, budget_tokens - least_tokens)
    parts = [list(map(_spoken, oldest_first[start:])) for start in range(len(oldest_first))]
    fitting = [
        part for part in parts if isinstance(part[0], HumanMessage) and count_tokens_approximately(part) <= left_tokens
    ]
    assert history == (fitting[0] if fitting else [])


def test_window_shows_everything_that_fits() -> None:
    newest_first = [Said(Role.ASSISTANT, "4"), Said(Role.USER, "3"), Said(Role.ASSISTANT, "2"), Said(Role.USER, "1")]

    shown = window("Be brief.", newest_first, "5", history_tokens=2_000, budget_tokens=4_000)

    assert shown == [
        SystemMessage("Be brief."),
        HumanMessage("1"),
        ChatMessage(content="2", role="assistant"),
        HumanMessage("3"),
        ChatMessage(content="4", role="assistant"),
        HumanMessage("5"),
    ]


@given(st.lists(st.text(max_size=120), max_size=5), st.integers(0, 300))
def test_memories_that_do_not_fit_are_left_out_worst_first(memories: list[str], budget: int) -> None:
    def prompt(kept: Sequence[str]) -> str:
        return f"Prompt {list(kept)}"

    chosen = fitting_prompt(prompt, memories, "Hello", budget)

    fitting = [
        count
        for count in range(len(memories) + 1)
        if count_tokens_approximately([SystemMessage(prompt(memories[:count])), HumanMessage("Hello")]) <= budget
    ]
    assert chosen == prompt(memories[: max(fitting, default=0)])
