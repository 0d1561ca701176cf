"""The window gives history all the room there is."""

from fakes.agent.runs import said
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.utils import count_tokens_approximately
from mesh_agent.domain import Message, Role
from mesh_agent.graph.window import window

# Runs that failed leave questions without answers, so turns need not alternate.
_histories = st.lists(st.builds(said, st.sampled_from(Role), st.text(max_size=60)), max_size=8)


def _spoken(message: Message) -> BaseMessage:
    return HumanMessage(message.content) if message.role is Role.USER else AIMessage(message.content)


@given(_histories, st.integers(0, 150), st.integers(0, 200), st.text(max_size=40))
def test_the_longest_part_that_fits_and_starts_with_the_user_is_kept(
    oldest_first: list[Message], history_tokens: int, budget_tokens: int, message: str
) -> None:
    shown = window(
        "Be brief.",
        oldest_first[::-1],
        message,
        history_tokens=history_tokens,
        budget_tokens=budget_tokens,
    )

    left_tokens = min(history_tokens, budget_tokens - count_tokens_approximately([shown[0], shown[-1]]))
    parts = [list(map(_spoken, oldest_first[start:])) for start in range(len(oldest_first))]
    fitting = [
        part for part in parts if isinstance(part[0], HumanMessage) and count_tokens_approximately(part) <= left_tokens
    ]
    assert shown[1:-1] == (fitting[0] if fitting else [])
