"""What of a thread a model is shown."""

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.messages.utils import count_tokens_approximately
from mesh_agent.domain import Message, Role
from mesh_agent.graph.window import fitting_prompt, window
from mesh_common.clock import utc_now
from mesh_common.ids import RunId, new_id

_TEXTS = st.text(max_size=120)


def spoken(role: Role, content: str) -> Message:
    return Message(new_id(), role, content, utc_now(), RunId(new_id()), is_partial=False)


def turns(*texts: str) -> list[Message]:
    """Newest first, as the store gives them: question and answer in turn."""
    roles = (Role.USER, Role.ASSISTANT)
    return [spoken(roles[index % 2], text) for index, text in enumerate(texts)][::-1]


@given(st.lists(_TEXTS, max_size=12), _TEXTS, st.integers(0, 300), st.integers(0, 400))
def test_window_stays_within_its_budgets(texts: list[str], message: str, history_tokens: int, budget: int) -> None:
    shown = window("Be brief.", turns(*texts), message, history_tokens=history_tokens, budget_tokens=budget)

    head, *history, tail = shown
    least = count_tokens_approximately([head, tail])
    assert count_tokens_approximately(shown) <= max(budget, least)
    assert count_tokens_approximately(history) <= history_tokens
    assert isinstance(head, SystemMessage)
    assert tail == HumanMessage(message)
    assert not history or isinstance(history[0], HumanMessage)


@given(st.lists(_TEXTS, max_size=12), st.integers(0, 300))
def test_window_keeps_the_newest_without_gaps(texts: list[str], history_tokens: int) -> None:
    shown = window("Be brief.", turns(*texts), "Now", history_tokens=history_tokens, budget_tokens=10_000)[1:-1]

    assert [message.content for message in shown] == texts[len(texts) - len(shown) :]


def test_window_shows_everything_that_fits() -> None:
    shown = window("Be brief.", turns("1", "2", "3", "4"), "5", history_tokens=2_000, budget_tokens=4_000)

    assert shown == [
        SystemMessage("Be brief."),
        HumanMessage("1"),
        AIMessage("2"),
        HumanMessage("3"),
        AIMessage("4"),
        HumanMessage("5"),
    ]


@given(st.lists(_TEXTS, max_size=5), st.integers(0, 300))
def test_memories_that_do_not_fit_are_left_out_worst_first(memories: list[str], budget: int) -> None:
    def prompt(kept: object) -> str:
        return f"Prompt {kept}"

    chosen = fitting_prompt(prompt, memories, "Hello", budget)

    fitting = [
        count
        for count in range(len(memories) + 1)
        if count_tokens_approximately([SystemMessage(prompt(memories[:count])), HumanMessage("Hello")]) <= budget
    ]
    assert chosen in {prompt(memories[: max(fitting, default=0)]), prompt(())}
