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


def events(response):
    """The id and the content of every frame; comments are passed over."""
    text = ""
    for chunk in response.iter_text():
        # Not iter_lines: a text may contain what Python takes for the end of a line.
        *frames, text = (text + chunk).split("\n\n")
        for frame in frames:
            fields = dict(line.split(": ", 1) for line in frame.split("\n"))
            if "data" in fields:
                yield fields["id"], json.loads(fields["data"])


def follow(http, thread_id, message):
    """One request, sent again until the run has ended: the key starts one run only, the id says where to go on."""
    path = f"/api/v1/threads/{thread_id}/runs/stream"
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    failures = 0
    while failures < 30:
        wait_s = min(0.2 * 2**failures, 5.0)
        try:
            with http.stream("POST", path, json={"message": message}, headers=headers) as response:
                if response.status_code == 204:
                    return  # All events were seen before, or the run ended more than 24 hours ago.
                if response.status_code in TRY_AGAIN:
                    wait_s = float(response.headers.get("Retry-After", wait_s))
                else:
                    response.raise_for_status()
                    for headers["Last-Event-ID"], event in events(response):
                        failures = 0
                        yield event
                        if event["type"] in TERMINAL:
                            return
        except httpx.TransportError:
            pass  # Cut: the run goes on.
        failures += 1
        time.sleep(wait_s)
    raise TimeoutError("the run cannot be followed")


def main(base_url, token, thread_id, message):
    with httpx.Client(base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        for event in follow(http, thread_id, message):
            if event["type"] == "message_delta":
                print(event["text"], end="", flush=True)
            elif event["type"] == "run_restarted":
                print("\n[starting again]")  # What was printed of this answer is void.
            elif event["type"] in TERMINAL:
                print(f"\n[{event['type']}]")


if __name__ == "__main__":
    main(*sys.argv[1:])
