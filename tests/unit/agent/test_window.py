"""The part of a thread sent to a model: within its budgets, and as much as fits."""

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from mesh_agent.domain.threads import Role, Said
from mesh_agent.graph.window import RunWindow, fitting_prompt, window
from mesh_agent.llm.token_estimate import messages_tokens

# Failed runs leave questions without answers, so the roles need not alternate.
_histories = st.lists(st.builds(Said, st.sampled_from(Role), st.text(max_size=60)), max_size=8)

LONG_HISTORY = [Said(role, role.value * 8) for role in (Role.USER, Role.ASSISTANT) * 4]


def _spoken(said: Said) -> BaseMessage:
    is_of_user = said.role in {Role.USER, Role.NOTE}
    return HumanMessage(said.content) if is_of_user else ChatMessage(content=said.content, role="assistant")


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
    least_tokens = messages_tokens([head, tail])
    assert messages_tokens(shown) <= max(budget_tokens, least_tokens)
    left_tokens = min(history_tokens, budget_tokens - least_tokens)
    parts = [list(map(_spoken, oldest_first[start:])) for start in range(len(oldest_first))]
    fitting = [part for part in parts if isinstance(part[0], HumanMessage) and messages_tokens(part) <= left_tokens]
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
        if messages_tokens([SystemMessage(prompt(memories[:count])), HumanMessage("Hello")]) <= budget
    ]
    assert chosen == prompt(memories[: max(fitting, default=0)])


def _rendered(memories: Sequence[str]) -> str:
    return " ".join(["Be brief.", *memories])


SYSTEM = SystemMessage(_rendered(["The user likes tea."] * 10))
HISTORY = [_spoken(said) for said in LONG_HISTORY]
CALL = AIMessage("", tool_calls=[{"name": "look_up", "args": {"word": "tea"}, "id": "c1"}])
OLD_RESULT, NEW_RESULT = ToolMessage("old " * 400, tool_call_id="c1"), ToolMessage("new " * 400, tool_call_id="c2")
RUN: list[BaseMessage] = [HumanMessage("Now"), CALL, OLD_RESULT, NEW_RESULT]


def test_model_that_can_read_everything_receives_everything() -> None:
    messages = [SYSTEM, *HISTORY, *RUN]

    assert RunWindow(messages, _rendered).fitted(messages_tokens(messages)) == messages


def test_smaller_model_receives_less_history() -> None:
    messages = [SYSTEM, *HISTORY, *RUN]
    budget_tokens = messages_tokens([SYSTEM, *HISTORY[4:], *RUN]) + 1

    assert RunWindow(messages, _rendered).fitted(budget_tokens) == [SYSTEM, *HISTORY[4:], *RUN]


def test_memories_are_left_out_after_the_history_and_before_results_of_tools() -> None:
    messages = [SYSTEM, *HISTORY, *RUN]
    bare = [SystemMessage("Be brief."), *RUN]

    assert RunWindow(messages, _rendered).fitted(messages_tokens(bare)) == bare


def test_oldest_result_of_a_tool_is_shortened_first() -> None:
    window = RunWindow([SYSTEM, *HISTORY, *RUN], _rendered)

    *_, call, old, new = window.fitted(messages_tokens([SystemMessage("Be brief."), *RUN]) - 1)

    assert (call, new) == (CALL, NEW_RESULT)
    assert str(old.content).startswith("old old")
    assert str(old.content).endswith("[shortened: the result is too long for the model]")
    assert isinstance(old, ToolMessage)
    assert old.tool_call_id == "c1"


def test_message_of_the_user_remains_even_if_it_does_not_fit() -> None:
    window = RunWindow([SYSTEM, *HISTORY, HumanMessage("Now " * 100)], _rendered)

    assert not window.fits(50)
    assert window.fitted(50) == [SystemMessage("Be brief."), HumanMessage("Now " * 100)]


@given(_histories, st.text(max_size=40), st.integers(0, 400))
def test_what_a_model_receives_fits_unless_nothing_can_be_left_out(
    oldest_first: list[Said], message: str, budget_tokens: int
) -> None:
    messages = [SYSTEM, *map(_spoken, oldest_first), HumanMessage(message)]
    window = RunWindow(messages, _rendered)
    least = [SystemMessage("Be brief."), HumanMessage(message)]

    fitted = window.fitted(budget_tokens)

    assert messages_tokens(fitted) <= max(budget_tokens, messages_tokens(least))
    assert window.fits(budget_tokens) == (messages_tokens(fitted) <= budget_tokens)
    assert fitted[-1] == messages[-1]
