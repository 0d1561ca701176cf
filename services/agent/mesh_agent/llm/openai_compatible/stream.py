"""Reads one streamed chat completion as cheaply as Python allows: aiohttp, events as bytes, orjson.

Why not the SDK: at one chunk per token and 50 tokens/s, a turn costs 2.2-2.8 ms with aiohttp and 9-22 ms with httpx;
the SDK's models cost as much again (docs/adr/0003).
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
import orjson

from mesh_agent.llm.completion import Completion, TextListener
from mesh_agent.llm.openai_compatible.answer_body import AnswerReader
from mesh_agent.llm.openai_compatible.refusals import check_status
from mesh_agent.llm.openai_compatible.silence import Silence, first_token_timeout_s, without_silence
from mesh_agent.llm.provider_errors import ProviderError

# After the finish reason only usage follows. A connection that stays open must not hold the answer back.
_AFTER_FINISH_S: Final = 1.0

type OnText = Callable[[str, int], None]


async def read_completion(
    session: aiohttp.ClientSession,
    url: str,
    *,
    headers: dict[str, str],
    payload: dict[str, Any],
    listener: TextListener,
    first_token_within_s: float | None = None,
) -> Completion:
    """The complete completion. The listener receives each piece. Raises ProviderError or RequestRefusedError.

    The first token must come within `first_token_within_s` (20 s if absent, or the session's `sock_read` if that is
    shorter), whatever else the provider sends until then. After it, `sock_read` limits how long it may send nothing.

    Cancelling it closes the provider's connection, so that the provider stops generating.
    """
    completion = Completion()
    silence_s = session.timeout.sock_read
    try:
        async with (
            asyncio.timeout(first_token_timeout_s(first_token_within_s, silence_s)) as timeout,
            session.post(
                url,
                headers=headers,
                data=orjson.dumps(payload),
                timeout=without_silence(session.timeout),
                # A redirect comes from a wrong address. Followed, it would become a GET without the question.
                allow_redirects=False,
            ) as response,
        ):
            await check_status(response)
            received = _by_ticks(response, completion, listener, Silence(timeout, silence_s))
            await read_chunks(received, completion, listener.on_text)
    except TimeoutError as error:
        raise ProviderError("MODEL_TIMEOUT", is_retryable=True, has_spoken=completion.has_spoken) from error
    except (aiohttp.ClientError, OSError) as error:
        reason = "MODEL_CUT_OFF" if completion.has_spoken else "MODEL_UNAVAILABLE"
        raise ProviderError(reason, is_retryable=True, has_spoken=completion.has_spoken) from error
    return completion


async def read_chunks(received: AsyncIterable[bytes], completion: Completion, on_text: OnText) -> None:
    """Parses an answer, split at arbitrary positions.

    Raises ProviderError or RequestRefusedError unless it ends properly.

    An answer ends with `[DONE]`, or with a finish reason and whatever happens then: more data, a clean or broken close,
    or nothing within `_AFTER_FINISH_S`.
    """
    reader = AnswerReader(completion, on_text)
    try:
        async with asyncio.timeout(None) as bound:
            async for data in received:
                if reader.take(data):
                    break
                if completion.finish_reason and bound.when() is None:
                    bound.reschedule(asyncio.get_running_loop().time() + _AFTER_FINISH_S)
    except (TimeoutError, aiohttp.ClientError, OSError):
        if completion.finish_reason is None:
            raise
    reader.close()


async def _by_ticks(
    response: aiohttp.ClientResponse, completion: Completion, listener: TextListener, silence: Silence
) -> AsyncIterator[bytes]:
    """The data received: the first token immediately, later data at the listener's ticks."""
    async for data in response.content.iter_any():
        yield data
        silence.received(completion)
        if completion.has_spoken and not response.content.is_eof():
            with _reading_paused(response):
                await asyncio.sleep(listener.until_tick_s())
        else:
            # iter_any never yields to the loop while data is buffered; a burst must not starve other runs.
            await asyncio.sleep(0)


@contextmanager
def _reading_paused(response: aiohttp.ClientResponse) -> Iterator[None]:
    """During the block, received data stays in the kernel and causes no wake-ups."""
    transport = response.connection.transport if response.connection else None
    if transport is None or transport.is_closing():
        yield
        return
    transport.pause_reading()
    try:
        yield
    finally:
        if not transport.is_closing():
            transport.resume_reading()
