"""Simulates people who log in, open a thread, chat and think, and who also read old threads and memories.

`make load USERS=1500 RATE=50 DURATION=120s` runs it against its own mesh. Against yours, which must have open
registration and raised rate limits, run: `locust -f loadtest/locustfile.py --host https://mesh.example.com`.
"""

import random
import secrets
import time
from collections.abc import Callable
from typing import Any

import gevent
from locust import FastHttpUser, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

API = "/api/v1"
PASSWORD = "lighthouse-keeper-of-a-load-test"  # noqa: S105 - of users that exist only during a test
OK, CONFLICT = 200, 409
_PAUSE_S = 2.0
TERMINAL = ("run_finished", "run_failed", "run_cancelled", "run_interrupted")


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--think-min", type=float, default=10.0, help="shortest pause between two actions, s")
    parser.add_argument("--think-max", type=float, default=30.0, help="longest pause between two actions, s")
    parser.add_argument("--people", choices=["chat", "mixed"], default="chat", help="chat only, or all actions")
    parser.add_argument(
        "--max-fail-ratio", type=float, default=0.0, help="fail if more than this share of requests fails"
    )
    parser.add_argument("--max-first-token-p99-ms", type=float, default=2_000.0, help="fail if the p99 is higher")


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    """Sets the exit code: 1 if a threshold is exceeded or nothing was measured."""
    options, stats = environment.parsed_options, environment.stats
    first_token = stats.get("first token", "SSE")
    if not first_token.num_requests:
        reason = "no turn had a first token"
    elif stats.total.fail_ratio > options.max_fail_ratio:
        reason = f"{stats.total.fail_ratio:.2%} of the requests failed"
    elif first_token.get_response_time_percentile(0.99) > options.max_first_token_p99_ms:
        reason = f"the p99 of the first token is {first_token.get_response_time_percentile(0.99):.0f} ms"
    else:
        environment.process_exit_code = 0
        return
    print(f"load: FAILED: {reason}")  # noqa: T201 - for the person who runs it
    environment.process_exit_code = 1


class Person(FastHttpUser):
    def wait_time(self) -> float:
        options = self.environment.parsed_options
        return float(between(options.think_min, options.think_max)(self))

    def on_start(self) -> None:
        self.email = f"load-{secrets.token_hex(8)}@example.com"
        self._until_it_works(
            lambda: self.client.post(f"{API}/auth/register", json={"email": self.email, "password": PASSWORD})
        )
        self._log_in()
        self.thread_id = self.client.post(f"{API}/threads", json={}, headers=self.headers).json()["id"]

    @task(20)
    def talk(self) -> None:
        body = {"message": "Tell me about lighthouses.", "thread_id": self.thread_id}
        began_s = time.perf_counter()
        with self.client.post(
            f"{API}/chatbot/chat/stream", json=body, headers=self.headers, stream=True, catch_response=True, name="talk"
        ) as response:
            if response.status_code != OK:
                response.failure(f"status {response.status_code}")
                return
            end = self._follow(response, began_s)
            if end == "run_finished":
                response.success()
            else:
                response.failure(end or "the stream was cut off")

    @task(2)
    def look_back(self) -> None:
        if self.environment.parsed_options.people == "mixed":
            path = f"{API}/threads/{self.thread_id}/messages"
            self.client.get(path, headers=self.headers, name="history")

    @task(1)
    def look_at_memories(self) -> None:
        if self.environment.parsed_options.people == "mixed":
            self.client.get(f"{API}/memories", headers=self.headers, name="memories")

    @task(1)
    def come_back(self) -> None:
        if self.environment.parsed_options.people == "mixed":
            self._log_in()

    def _log_in(self) -> None:
        form = {"username": self.email, "password": PASSWORD}
        answer = self._until_it_works(lambda: self.client.post(f"{API}/auth/login", data=form))
        self.headers = {"authorization": f"Bearer {answer.json()['access_token']}"}

    def _until_it_works(self, call: Callable[[], Any]) -> Any:
        """Repeats the call until it succeeds. A rejected call counts as failed and is retried after its Retry-After.

        A conflict counts as success: an earlier registration without a timely answer may have been made.
        """
        answer = call()
        while not answer.ok and answer.status_code != CONFLICT:
            gevent.sleep(float(answer.headers.get("Retry-After") or _PAUSE_S) * random.uniform(1.0, 2.0))  # noqa: S311
            answer = call()
        return answer

    def _follow(self, response: Any, began_s: float) -> str:
        """The terminal event. Reports the times of the first token and of the whole turn as separate figures."""
        end, has_token = "", False
        # The separator is an empty line, so each read returns one frame.
        while not end and (frame := response.stream.readline(b"\n\n")):
            _, found, rest = frame.partition(b"event: ")
            event = rest.partition(b"\n")[0].decode() if found else ""
            if event == "message_delta" and not has_token:
                has_token = True
                self._measured("first token", began_s)
            end = event if event in TERMINAL else ""
        response.stream.read()
        if end:
            self._measured("whole turn", began_s)
        return end

    def _measured(self, name: str, began_s: float) -> None:
        took_ms = (time.perf_counter() - began_s) * 1_000
        self.environment.events.request.fire(
            request_type="SSE", name=name, response_time=took_ms, response_length=0, exception=None, context={}
        )
