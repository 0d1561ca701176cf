"""How many rounds, and how many tokens, a run has left for all of its agents."""

from mesh_common.errors import PreconditionFailed

from mesh_agent.domain.runs import Usage
from mesh_agent.plans.plan import Limits


class BudgetError(PreconditionFailed):
    """The run has no rounds or no tokens left."""


class Budget:
    def __init__(self, limits: Limits, counted: int = 0, spent_tokens: int = 0) -> None:
        """`counted`, `spent_tokens`: rounds of earlier attempts, and what they cost."""
        self._limits = limits
        self._counted = counted
        self._spent_tokens = spent_tokens

    @property
    def left_rounds(self) -> int:
        return self._limits.rounds - self._counted

    @property
    def is_spent(self) -> bool:
        """Whether the tokens are used up."""
        return self._limits.tokens is not None and self._spent_tokens >= self._limits.tokens

    def count(self, *, may_overspend: bool = False, reserved_rounds: int = 0) -> None:
        """Called before each round. `may_overspend`: a last answer, although the tokens are used up.
        `reserved_rounds`: those that others need for their answers.

        Raises BudgetError.
        """
        if self.is_spent and not may_overspend:
            raise BudgetError(
                f"The run has used {self._limits.tokens} tokens, which is its limit.", reason="TOKEN_LIMIT"
            )
        if self.left_rounds <= reserved_rounds:
            raise BudgetError(
                f"The run has asked models {self._counted} times, which is its limit.", reason="ROUND_LIMIT"
            )
        self._counted += 1

    def spend(self, usage: Usage) -> None:
        self._spent_tokens += usage.input_tokens + usage.output_tokens
