"""Start a run, print its answer as it is written, come back after every cut. Needs httpx.

python follow.py http://127.0.0.1:8000 "$token" "$thread_id" "Tell me one thing about tides."
"""

import json
import sys
import time
import uuid

import httpx

TERMINAL = {"run_finished", "run_failed", "run_cancelled"}
TRY_AGAIN = {429, 502, 503, 504}


def events(chunks):
    """The id and the content of every event. Only "\\n" ends a line: texts may contain what Python takes for an end."""
    text = ""
    for chunk in chunks:
        *frames, text = (text + chunk).split("\n\n")
        for frame in frames:
            lines = (line.partition(":") for line in frame.split("\n"))  # A comment is a line whose field has no name.
            fields = {name: value.removeprefix(" ") for name, _, value in lines}
            if "data" in fields:
                yield fields["id"], json.loads(fields["data"])


def follow(http, get_token, thread_id, message):
    """One request until the run has ended: its key starts one run only, the id of the last event says where to go on.

    `get_token(refresh)` gives the access token: the one you have, or after a 401 the next, by POST /auth/refresh.
    """
    path, headers = f"/api/v1/threads/{thread_id}/runs/stream", {"Idempotency-Key": str(uuid.uuid4())}
    failures = status = 0
    while failures < 30:
        wait_s = min(0.2 * 2**failures, 5.0)
        try:
            before, headers["Authorization"] = status, f"Bearer {get_token(status == 401)}"
            with http.stream("POST", path, json={"message": message}, headers=headers, timeout=60) as response:
                status = response.status_code
                if status == 204:
                    return  # All events were seen before, or the run ended more than 24 hours ago.
                if status in TRY_AGAIN or (status == 401 and before != 401):
                    wait_s = float(response.headers.get("Retry-After", wait_s))
                elif status != 200:
                    raise RuntimeError(f"{status} {response.read().decode()}")
                else:
                    for headers["Last-Event-ID"], event in events(response.iter_text()):
                        failures = 0
                        yield event
                        if event["type"] in TERMINAL:
                            return
        except httpx.TransportError:
            pass  # Cut, or silent for a minute: the run goes on.
        failures += 1
        time.sleep(wait_s)
    raise TimeoutError("the run cannot be followed")


if __name__ == "__main__":
    base_url, token, *thread_and_message = sys.argv[1:]
    for event in follow(httpx.Client(base_url=base_url), lambda _: token, *thread_and_message):
        if event["type"] == "message_delta":
            print(event["text"], end="", flush=True)
        elif event["type"] in TERMINAL | {"run_restarted"}:  # What was printed before run_restarted is void.
            print(f"\n[{event['type']}]")
