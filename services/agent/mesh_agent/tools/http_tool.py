"""Tools on the operator's own HTTP servers, by setting: `POST` the arguments, and return the body of the answer.

`Idempotency-Key` is the same whenever a call is repeated, so that the server can recognize it (an `idempotent` tool
must). `Mesh-On-Behalf-Of` is the user's id. The arguments fit the tool's schema; what the server finds wrong with them
beyond that goes to the model as its 4xx answer.
"""

from collections.abc import Mapping
from typing import Any

import aiohttp

from mesh_agent.settings import HttpToolSettings
from mesh_agent.tools.call import to_json
from mesh_agent.tools.http_call import HttpRequest, answer_of
from mesh_agent.tools.tool import Tool, of_schema


def http_tool(settings: HttpToolSettings, session: aiohttp.ClientSession) -> Tool:
    return of_schema(settings.name, settings.description, settings.parameters, _HttpCall(settings, session))


class _HttpCall:
    def __init__(self, settings: HttpToolSettings, session: aiohttp.ClientSession) -> None:
        key = settings.api_key
        self._headers = {"Content-Type": "application/json"}
        self._headers |= {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._url = str(settings.url)
        self._session = session

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Raises as `answer_of`."""
        request = HttpRequest("POST", self._url, self._headers, to_json(arguments).encode())
        return await answer_of(self._session, request)
