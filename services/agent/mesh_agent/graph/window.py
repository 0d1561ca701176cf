"""The window: the part of a thread's history that is sent to a model.

It is built once for a run, by the largest budget among its models. Each model then receives what fits its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from langchain_core.messages import BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from mesh_agent.domain.threads import Role, Said
from mesh_agent.llm.token_estimate import MAX_TOKENS_PER_CHARACTER, message_tokens, messages_tokens

# What remains of a tool's result that does not fit: enough to show what it was.
_SHORT_RESULT_CHARS: Final = 400
_SHORTENED: Final = " … [shortened: the result is too long for the model]"
# What a message costs besides its text, as characters of the most expensive kind.
_OVERHEAD_CHARACTERS: Final = 2


def window(
    system_prompt: str, history: Sequence[Said], message: str, *, history_tokens: int, budget_tokens: int
) -> list[BaseMessage]:
    """The system prompt, as much of the newest history as fits `history_tokens`, and the complete new message.

    `history` is newest first. `budget_tokens` limits all three together: history gets at most what the prompt and the
    message leave.
    """
    head: list[BaseMessage] = [SystemMessage(system_prompt)]
    tail: list[BaseMessage] = [HumanMessage(message)]
    left_tokens = min(history_tokens, budget_tokens - messages_tokens([*head, *tail]))
    return [*head, *_trimmed(history, left_tokens), *tail]


def history_messages(history: Sequence[Said], history_tokens: int) -> list[BaseMessage]:
    """As much of the newest history as fits, oldest first. `history` is newest first."""
    return _trimmed(history, history_tokens)


def fitting_prompt(
    system_prompt: Callable[[Sequence[str]], str], memories: Sequence[str], message: str, budget_tokens: int
) -> str:
    """The system prompt with as many memories (best first) as fit the budget together with the message."""
    for count in range(len(memories), 0, -1):
        prompt = system_prompt(memories[:count])
        if messages_tokens([SystemMessage(prompt), HumanMessage(message)]) <= budget_tokens:
            return prompt
    return system_prompt(())


@dataclass(frozen=True)
class RunWindow:
    """The messages of a run so far: its window, then the rounds of its tool loop.

    `prompt` renders the system message again without memories.
    """

    messages: list[BaseMessage]
    prompt: Callable[[Sequence[str]], str]

    def fits(self, budget_tokens: int) -> bool:
        """Whether what cannot be left out fits."""
        return self._fits_whole(budget_tokens) or messages_tokens(self.fitted(budget_tokens)) <= budget_tokens

    def fitted(self, budget_tokens: int) -> list[BaseMessage]:
        """As much as fits: the oldest history is left out first, then the memories; then tool results are shortened.

        The message and the answers of this run always remain, even if they do not fit.
        """
        if self._fits_whole(budget_tokens):
            return self.messages
        head, history, run = self._parts()
        history_tokens = budget_tokens - messages_tokens([*head, *run])
        if history_tokens >= 0:
            return [*head, *_newest(history, history_tokens), *run]
        head = [SystemMessage(self.prompt(())) for _ in head]
        return [*head, *_with_shorter_results(run, budget_tokens - messages_tokens(head))]

    def _fits_whole(self, budget_tokens: int) -> bool:
        """Decides by the length alone if the budget is large, as it mostly is."""
        return self._most_tokens <= budget_tokens or self._tokens <= budget_tokens

    @cached_property
    def _most_tokens(self) -> float:
        if any(isinstance(message, ToolMessage) for message in self.messages):
            # An answer that calls tools is longer than its text.
            return math.inf
        characters = sum([len(message.content) + _OVERHEAD_CHARACTERS for message in self.messages])
        return characters * MAX_TOKENS_PER_CHARACTER

    @cached_property
    def _tokens(self) -> int:
        return messages_tokens(self.messages)

    def _parts(self) -> tuple[list[BaseMessage], list[BaseMessage], list[BaseMessage]]:
        """The system message, the history, and this run from its user's message on."""
        start = 1 if isinstance(self.messages[0], SystemMessage) else 0
        users = [index for index, message in enumerate(self.messages) if isinstance(message, HumanMessage)]
        run_from = users[-1] if users else start
        return self.messages[:start], self.messages[start:run_from], self.messages[run_from:]


def user_tokens(message: str) -> int:
    return message_tokens(HumanMessage(message))


def _newest(history: Sequence[BaseMessage], tokens: int) -> Sequence[BaseMessage]:
    """The newest messages that fit, starting with a message of the user."""
    start = len(history)
    while start and (tokens := tokens - message_tokens(history[start - 1])) >= 0:
        start -= 1
    while start < len(history) and not isinstance(history[start], HumanMessage):
        start += 1
    return history[start:]


def _with_shorter_results(run: Sequence[BaseMessage], budget_tokens: int) -> list[BaseMessage]:
    """The run with the oldest results of tools shortened until it fits."""
    shown = list(run)
    tokens = messages_tokens(shown)
    for index, message in enumerate(run):
        if tokens <= budget_tokens:
            break
        text = str(message.content)
        if isinstance(message, ToolMessage) and len(text) > _SHORT_RESULT_CHARS + len(_SHORTENED):
            shown[index] = message.model_copy(update={"content": text[:_SHORT_RESULT_CHARS] + _SHORTENED})
            tokens += message_tokens(shown[index]) - message_tokens(message)
    return shown


def _trimmed(history: Sequence[Said], tokens: int) -> list[BaseMessage]:
    """The newest messages that fit, starting with a message of the user.

    langchain's trim_messages does the same, but creates objects for the complete history and counts them several times:
    a quarter of a millisecond per turn for sixty messages.
    """
    shown: list[BaseMessage] = []
    for said in history:
        message = _as_message(said)
        tokens -= message_tokens(message)
        if tokens < 0:
            break
        shown.append(message)
    while shown and not isinstance(shown[-1], HumanMessage):
        shown.pop()
    return shown[::-1]


def _as_message(said: Said) -> BaseMessage:
    """An answer is sent like an AIMessage, which langchain-openai would scan for audio character by character.

    A note stands before the user's next message: a model must not take it for its own words.
    """
    if said.role in {Role.USER, Role.NOTE}:
        return HumanMessage(said.content)
    return ChatMessage(content=said.content, role="assistant")
