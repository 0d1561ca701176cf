"""The window: what of a thread's history a model is shown."""

from collections.abc import Callable, Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, trim_messages
from langchain_core.messages.utils import count_tokens_approximately

from mesh_agent.domain import Message, Role


def window(
    system_prompt: str, history: Sequence[Message], message: str, *, history_tokens: int, budget_tokens: int
) -> list[BaseMessage]:
    """System prompt, as much of the newest history as fits `history_tokens`, and the new message, whole.

    `history` is newest first. `budget_tokens` bounds all three together: what the prompt and the message leave is
    all that history gets. Tokens are estimated (four characters each): exact counting would need the provider's
    tokenizer, which langchain-openai downloads.
    """
    head: list[BaseMessage] = [SystemMessage(system_prompt)]
    tail: list[BaseMessage] = [HumanMessage(message)]
    left_tokens = min(history_tokens, budget_tokens - count_tokens_approximately([*head, *tail]))
    return [*head, *_trimmed(history, left_tokens), *tail]


def fitting_prompt(
    system_prompt: Callable[[Sequence[str]], str], memories: Sequence[str], message: str, budget_tokens: int
) -> str:
    """The system prompt with as many of the memories (best first) as fit the budget beside the message."""
    for count in range(len(memories), 0, -1):
        prompt = system_prompt(memories[:count])
        if count_tokens_approximately([SystemMessage(prompt), HumanMessage(message)]) <= budget_tokens:
            return prompt
    return system_prompt(())


def message_tokens(message: str) -> int:
    return count_tokens_approximately([HumanMessage(message)])


def _trimmed(history: Sequence[Message], tokens: int) -> list[BaseMessage]:
    if tokens <= 0 or not history:
        return []
    oldest_first = [_spoken(message) for message in reversed(history)]
    trimmed = trim_messages(
        oldest_first,
        max_tokens=tokens,
        token_counter=count_tokens_approximately,
        strategy="last",
        start_on="human",
        include_system=False,
    )
    return list(trimmed)


def _spoken(message: Message) -> BaseMessage:
    return HumanMessage(message.content) if message.role is Role.USER else AIMessage(message.content)
