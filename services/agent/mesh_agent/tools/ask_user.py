"""The tool with which a model asks its user. Nobody calls it: the user's answer is its result (graph/approval.py)."""

from typing import Annotated, Any, Final

from langchain_core.tools import ToolException, tool
from pydantic import Field

from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.tools.registry import MeshTool
from mesh_agent.tools.tool import Tool, of_function

MAX_QUESTION_CHARS: Final = 4_000


def ask_user_tool() -> MeshTool:
    # Stored in plans as a tool that needs approval, so that a release that cannot ask does not offer it.
    return MeshTool(_ask_user(), Effect.NONE, approval=Approval.ALWAYS, is_question=True)


def _ask_user() -> Tool:
    @tool
    async def ask_user(
        question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARS)],
        answer_schema: dict[str, Any] | None = None,
    ) -> str:
        """Asks the user a question and waits for the answer, however long that takes.

        Use it only if you cannot go on without the answer. `answer_schema` is a JSON Schema of the answer, e.g.
        {"enum": ["yes", "no"]}; by default the answer is a text.
        """
        del question, answer_schema
        raise ToolException("The user was not asked.")

    return of_function(ask_user)
