"""Start a run, print its events as they arrive, reconnect after every cut. Needs httpx-sse.

python follow.py http://127.0.0.1:8000 "$token" "$thread_id" "Tell me one thing about tides."
"""

import sys
import time
import uuid

import httpx
from httpx_sse import connect_sse


def follow(http, get_token, thread_id, message):
    """The Idempotency-Key makes repeated requests start only one run; the last event's id says where to continue.

    `get_token(refresh)` returns the access token: the current one, or after a 401 a new one from POST /auth/refresh.
    """
    path, headers = f"/api/v1/threads/{thread_id}/runs/stream", {"Idempotency-Key": str(uuid.uuid4())}
    failures = status = 0
    while failures < 30:
        wait_s = min(0.2 * 2**failures, 5.0)
        failures, refresh = failures + 1, status == 401
        try:
            headers["Authorization"] = f"Bearer {get_token(refresh)}"
            with connect_sse(http, "POST", path, json={"message": message}, headers=headers, timeout=60) as source:
                status = source.response.status_code
                if status in {429, 502, 503, 504} or (status == 401 and not refresh):
                    wait_s = float(source.response.headers.get("Retry-After", wait_s))
                elif status != 200:
                    return source.response.raise_for_status()  # 204: all seen, or ended over 24 hours ago.
                else:
                    for event in (event for event in source.iter_sse() if event.data):
                        failures, headers["Last-Event-ID"] = 0, event.id
                        yield event.json()
                        if event.event in {"run_finished", "run_failed", "run_cancelled", "run_interrupted"}:
                            return None
        except httpx.TransportError:
            pass  # Cut, or silent for a minute: the run continues.
        time.sleep(wait_s)
    raise TimeoutError("the run cannot be followed")


if __name__ == "__main__":
    base_url, token, thread_id, message = sys.argv[1:]
    for event in follow(httpx.Client(base_url=base_url), lambda _: token, thread_id, message):
        # After run_restarted, the text before it is void.
        print(event["text"] if event["type"] == "message_delta" else f"\n[{event['type']}]\n", end="", flush=True)
