"""What each agent of a team used in a run."""

from collections.abc import Iterable, Mapping

from mesh_agent.domain.runs import Usage


class TeamUsage:
    """By the agent's name. The run's own assistant, which has no name elsewhere, has `own_name` here."""

    def __init__(self, own_name: str, earlier: Mapping[str, Usage]) -> None:
        """`earlier`: of earlier attempts."""
        self._own_name = own_name
        self._used: dict[str, Usage] = dict(earlier)

    def add(self, agent: str, usage: Usage) -> None:
        self._used[agent] = self._used.get(agent, Usage()).plus(usage)

    def with_more(self, more: Iterable[tuple[str, Usage]]) -> dict[str, Usage]:
        """Those who used anything, in the order in which they did."""
        used = dict(self._used)
        for agent, usage in more:
            used[agent] = used.get(agent, Usage()).plus(usage)
        return {agent or self._own_name: usage for agent, usage in used.items() if usage != Usage()}
