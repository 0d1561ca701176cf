"""Forms are UTF-8, as the WHATWG URL standard and RFC 7578 have it.

Starlette takes the raw bytes of a form for Latin-1, so `é` typed without percent-encoding would be `Ã©`: the name of
another account. It also replaces whatever is not UTF-8, so that different names become equal.
"""

import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from email.message import Message
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from fastapi import params
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")
_UTF_8: Final = frozenset({"", "utf-8", "utf8"})


class FormRoute(APIRoute):
    """A route that reads a form gets 422 for one that is not UTF-8. For other routes, the same as `APIRoute`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None or not isinstance(self.body_field.field_info, params.Form):
            return handle

        async def handle_form(request: Request) -> Response:
            return await handle(_FormRequest(request.scope, request.receive))

        return handle_form


class _FormRequest(Request):
    async def stream(self) -> AsyncGenerator[bytes]:
        """The whole body in one piece, in a form that Starlette reads correctly.

        Raises UnicodeDecodeError, which FastAPI answers like any body that it cannot parse.
        """
        body = b"".join([chunk async for chunk in super().stream()])
        content = Message()
        content["content-type"] = self.headers.get("content-type", "")
        if content.get_content_type() == "multipart/form-data":
            # Starlette decodes by the declared charset, and ASCII is the same in those that clients declare.
            is_utf_8 = content.get_content_charset("").lower() in _UTF_8
            body.decode("utf-8" if is_utf_8 else "ascii")
        else:
            unquote_to_bytes(body).decode("utf-8")
            body = _NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], body)
        yield body
