"""The window: the part of a thread's history that is sent to a model."""

from collections.abc import Callable, Sequence

from langchain_core.messages import BaseMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.messages.utils import count_tokens_approximately

from mesh_agent.domain import Role, Said


def window(
    system_prompt: str, history: Sequence[Said], message: str, *, history_tokens: int, budget_tokens: int
) -> list[BaseMessage]:
    """The system prompt, as much of the newest history as fits `history_tokens`, and the complete new message.

    `history` is newest first. `budget_tokens` limits all three together: history gets at most what the prompt and the
    message leave. Tokens are estimated (four characters each): exact counts would need the provider's tokenizer, which
    langchain-openai downloads.
    """
    head: list[BaseMessage] = [SystemMessage(system_prompt)]
    tail: list[BaseMessage] = [HumanMessage(message)]
    left_tokens = min(history_tokens, budget_tokens - count_tokens_approximately([*head, *tail]))
    return [*head, *_trimmed(history, left_tokens), *tail]


def fitting_prompt(
    system_prompt: Callable[[Sequence[str]], str], memories: Sequence[str], message: str, budget_tokens: int
) -> str:
    """The system prompt with as many memories (best first) as fit the budget together with the message."""
    for count in range(len(memories), 0, -1):
        prompt = system_prompt(memories[:count])
        if count_tokens_approximately([SystemMessage(prompt), HumanMessage(message)]) <= budget_tokens:
            return prompt
    return system_prompt(())


def message_tokens(message: str) -> int:
    return count_tokens_approximately([HumanMessage(message)])


def _trimmed(history: Sequence[Said], tokens: int) -> list[BaseMessage]:
    """The newest messages that fit, starting with a message of the user.

    langchain's trim_messages does the same, but creates objects for the complete history and counts them several times:
    a quarter of a millisecond per turn for sixty messages.
    """
    shown: list[BaseMessage] = []
    for said in history:
        message = _as_message(said)
        tokens -= count_tokens_approximately([message])
        if tokens < 0:
            break
        shown.append(message)
    while shown and not isinstance(shown[-1], HumanMessage):
        shown.pop()
    return shown[::-1]


def _as_message(said: Said) -> BaseMessage:
    """An answer is sent like an AIMessage, which langchain-openai would scan for audio character by character."""
    return HumanMessage(said.content) if said.role is Role.USER else ChatMessage(content=said.content, role="assistant")
