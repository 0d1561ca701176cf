"""The rules that tests set through the admin API, and the actions that rules and directives share."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

FaultKind = Literal["429", "500", "503", "hang", "cut", "end_early", "garbage", "slow", "odd"]
RequestKind = Literal["chat", "embeddings"]

# Defaults of the fault `slow`: far longer than callers usually wait for a token.
SLOW_TTFT_MS = 3_000.0
SLOW_ITL_MS = 300.0


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ToolCall(_Strict):
    name: str = Field(min_length=1)
    arguments: dict[str, Any] | str = Field(default_factory=dict)
    """An object, or a string that is sent unchanged (for arguments that are not JSON)."""


class Action(_Strict):
    """How a request is answered. Unset fields keep their default behaviour."""

    reply: str | None = None
    """The answer's text. `{tool_result}` is replaced by the results of the tools called since the last user message."""
    echo: Literal["user", "prompt"] | None = None
    """Answers with the last user message, or with all system messages."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Called, all at once, if the request offers tools and has no results yet. `reply` is the text after that."""
    in_rounds: bool = False
    """One tool call for each round instead of all at once."""
    repeat: bool = False
    """Calls tools in every round, forever."""
    tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Length of a default answer."""
    fault: FaultKind | None = None
    after_tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens before a hang, cut, early end or garbage. If unset, half of the answer, or 0 for a hang, which then does
    not even send a status line."""
    with_finish: bool = False
    """Cuts after the finish chunk instead of before it."""
    retry_after_s: int = Field(default=1, ge=0)
    """Sent with 429 and 503."""
    ttft_ms: Annotated[float, Field(ge=0)] | None = None
    itl_ms: Annotated[float, Field(ge=0)] | None = None

    def overridden_by(self, other: Self) -> Self:
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})


class Match(_Strict):
    """Matches if all given conditions hold; without conditions, matches every chat request."""

    kind: RequestKind = "chat"
    model: str | None = None
    contains: str | None = None
    """Part of the last user message (of any input, for embeddings)."""
    anywhere: str | None = None
    """Part of any message's text."""
    header: dict[str, str] = Field(default_factory=dict)
    """Header values; names are case-insensitive."""
    structured: bool | None = None
    """Whether `response_format` requests JSON, as memory extraction and judging do and chat turns do not."""
    probability: float = Field(default=1, ge=0, le=1)
    times: int | None = Field(default=None, ge=1)
    """Only the first n matches."""


class Rule(_Strict):
    match: Match = Match()
    action: Action

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.action.model_fields_set:
            msg = "the action does nothing"
            raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class Subject:
    """The parts of a request that rules match; created only if there are rules."""

    kind: RequestKind
    model: str
    text: str
    texts: Sequence[str]
    headers: Mapping[str, str]
    structured: bool


_RULES = TypeAdapter(list[Rule])


class RuleBook:
    """The active rules, of which the first match applies. Counts each rule's matches."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rules: list[Rule] = []
        self._hits: list[int] = []
        self._rng = random.Random(seed)  # noqa: S311 - reproducible faults, not a secret

    def __bool__(self) -> bool:
        return bool(self._rules)

    def replace(self, payload: object) -> None:
        """Replaces all rules by a list of rules (or `{"rules": [...]}`).

        Raises: pydantic.ValidationError, before anything has changed.
        """
        rules = _RULES.validate_python(payload.get("rules") if isinstance(payload, dict) else payload)
        self._rules, self._hits = rules, [0] * len(rules)
        self._rng.seed(self._seed)

    def clear(self) -> None:
        self.replace([])

    def action_for(self, subject: Subject) -> Action | None:
        for index, rule in enumerate(self._rules):
            if self._holds(rule.match, subject, self._hits[index]):
                self._hits[index] += 1
                return rule.action
        return None

    def describe(self) -> list[dict[str, Any]]:
        return [
            rule.model_dump(mode="json", exclude_unset=True) | {"hits": hits}
            for rule, hits in zip(self._rules, self._hits, strict=True)
        ]

    def _holds(self, match: Match, subject: Subject, hits: int) -> bool:
        # The random draw comes last, so that a request that does not match otherwise does not advance the sequence.
        return (
            match.kind == subject.kind
            and (match.times is None or hits < match.times)
            and match.model in (None, subject.model)
            and (match.contains is None or match.contains in subject.text)
            and (match.anywhere is None or any(match.anywhere in text for text in subject.texts))
            and all(subject.headers.get(name.lower()) == value for name, value in match.header.items())
            and match.structured in (None, subject.structured)
            and (match.probability >= 1 or self._rng.random() < match.probability)
        )


class FaultDice:
    """Draws faults by the global rates, with a seed."""

    def __init__(self, seed: int, rates: Mapping[FaultKind, float]) -> None:
        self._seed = seed
        self._rates = dict(rates)
        self._rng = random.Random(seed)  # noqa: S311 - reproducible faults, not a secret

    def reset(self) -> None:
        self._rng.seed(self._seed)

    def roll(self) -> FaultKind | None:
        """At most one fault per request. If the rates sum to more than 1, later kinds occur less often."""
        if not self._rates:
            return None
        draw = self._rng.random()
        for kind, rate in self._rates.items():
            draw -= rate
            if draw < 0:
                return kind
        return None
