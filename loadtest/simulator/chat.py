"""POST /v1/chat/completions: parses the request, chooses the action, and sends the answer or fault."""

import random
import time
from functools import partial

from simulator.answer import Answer, Answerer
from simulator.chat_request import BadRequestError, ChatRequest, parse_body, parse_chat
from simulator.directives import parse_directives
from simulator.http_server import Connection, Request
from simulator.odd import OddFrame
from simulator.pacing import Clock, Pace, lognormal_jitter
from simulator.rules import SLOW_ITL_MS, SLOW_TTFT_MS, Action, FaultDice, FaultKind, RuleBook, Subject
from simulator.settings import SimulatorSettings
from simulator.stats import RequestRecord, Stats
from simulator.stream import GARBAGE, Ending, Script, Stream
from simulator.wire import ChunkFrame, Usage, completion, error
from simulator.words import writer_for

_PLAIN = Action()
_STATUS_FAULTS: dict[FaultKind, tuple[int, str, str]] = {
    "429": (429, "rate_limit_exceeded", "Rate limit reached for requests"),
    "500": (500, "server_error", "The server had an error while processing your request"),
    "503": (503, "service_unavailable", "The engine is currently overloaded, please try again later"),
}
_ENDINGS: dict[FaultKind | None, Ending] = {
    "hang": "hang",
    "cut": "cut",
    "end_early": "end_early",
    "garbage": "garbage",
}


def respond_status_fault(connection: Connection, action: Action) -> bool:
    """Answers 429, 500 or 503 if the action requires it. Returns whether it did."""
    if action.fault not in _STATUS_FAULTS:
        return False
    status, kind, message = _STATUS_FAULTS[action.fault]
    retry_after = b"" if status == 500 else b"retry-after: %d\r\n" % action.retry_after_s  # noqa: PLR2004 - HTTP status
    connection.respond(status, error(message, kind, kind), headers=retry_after)
    return True


class Chat:
    def __init__(
        self, settings: SimulatorSettings, *, rules: RuleBook, dice: FaultDice, stats: Stats, clock: Clock
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._dice = dice
        self._stats = stats
        self._clock = clock
        self._answerer = Answerer(seed=settings.seed, default_tokens=settings.tokens, writer=writer_for(settings.seed))
        self._jitter = lognormal_jitter(settings.seed, settings.pace_sigma) if settings.pace == "lognormal" else ()
        self._pace = self._pace_of(_PLAIN)

    def handle(self, http: Request, connection: Connection) -> None:
        """Raises: BadRequestError, DirectiveError, before anything has been written."""
        body = parse_body(http)
        request = parse_chat(http, body)
        action, key = self._action_for(http, request)
        record = self._stats.begin(
            kind="chat_stream" if request.is_stream else "chat", model=request.model, key=key, body=http.body
        )
        if respond_status_fault(connection, action):
            self._stats.end(record, "fault", action.fault)
            return
        try:
            answer = self._answerer.answer(request, action, _answer_id(record))
        except BadRequestError:
            self._stats.end(record, "refused")
            raise
        record.reply = answer.text
        if request.is_stream:
            self._stream(connection, record, request, action, answer)
        else:
            self._respond_later(connection, record, request, action, answer)

    def _action_for(self, http: Request, request: ChatRequest) -> tuple[Action, str | None]:
        action, key = _PLAIN, request.key
        if not request.is_structured:
            directed = parse_directives(request.user_message)
            if directed:
                action, key = directed[0], request.key or directed[1]
        if self._rules:
            ruled = self._rules.action_for(_subject(http, request))
            action = action.overridden_by(ruled) if ruled else action
        if action.fault is None and (fault := self._dice.roll()):
            action = action.model_copy(update={"fault": fault})
        return action, key

    def _pace_of(self, action: Action) -> Pace:
        ttft_ms, itl_ms = self._settings.ttft_ms, self._settings.itl_ms
        if action.fault == "slow":
            ttft_ms, itl_ms = SLOW_TTFT_MS, SLOW_ITL_MS
        ttft_ms = ttft_ms if action.ttft_ms is None else action.ttft_ms
        itl_ms = itl_ms if action.itl_ms is None else action.itl_ms
        return Pace(ttft_ms / 1000, itl_ms / 1000, self._jitter)

    # --- streamed

    def _stream(
        self, connection: Connection, record: RequestRecord, request: ChatRequest, action: Action, answer: Answer
    ) -> None:
        if action.fault == "odd":
            self._stream_oddly(connection, record, request, action, answer)
            return
        frame = ChunkFrame(_answer_id(record), request.model, int(time.time()), with_usage=request.with_usage)
        tail = frame.finish(answer.finish_reason)
        if request.with_usage:
            tail += frame.usage(Usage(request.prompt_tokens, len(answer.deltas)))
        ending = _ENDINGS.get(action.fault, "finish")
        deltas = answer.deltas if ending == "finish" else answer.deltas[: _tokens_before_fault(action, answer)]
        if ending == "cut" and action.with_finish:
            ending = "cut_after_finish"
        script = Script(frame, answer.first_delta, deltas, tail, ending, action.fault)
        pace = self._pace if action is _PLAIN else self._pace_of(action)
        Stream(connection, script, pace, self._clock, self._stats, record).start()

    def _stream_oddly(
        self, connection: Connection, record: RequestRecord, request: ChatRequest, action: Action, answer: Answer
    ) -> None:
        rng = random.Random(f"{self._settings.seed}/{record.id}")  # noqa: S311 - reproducible forms, not a secret
        frame = OddFrame(_answer_id(record), request.model, rng)
        usage = frame.usage(Usage(request.prompt_tokens, len(answer.deltas)))
        tail = frame.finish(answer.finish_reason) + usage
        ending: Ending = "cut_after_finish" if frame.is_cut else "finish"
        script = Script(frame, answer.first_delta, answer.deltas, tail, ending, action.fault, frame.done)
        Stream(connection, script, self._pace_of(action), self._clock, self._stats, record).start()

    # --- not streamed

    def _respond_later(
        self, connection: Connection, record: RequestRecord, request: ChatRequest, action: Action, answer: Answer
    ) -> None:
        connection.on_gone = partial(self._stats.end, record, "client_left", action.fault)
        if action.fault == "hang":
            return
        pace = self._pace_of(action)
        respond = partial(self._respond, connection, record, request, action, answer)
        delay_s = pace.total_s(len(answer.deltas))
        if delay_s:
            self._clock.at(self._clock.now_s() + delay_s, respond)
        else:
            respond()

    def _respond(
        self, connection: Connection, record: RequestRecord, request: ChatRequest, action: Action, answer: Answer
    ) -> None:
        if record.outcome != "open":
            return
        finish_reason: str | None = answer.finish_reason
        if action.fault in ("cut", "end_early"):
            answer, finish_reason = answer.cut_to(_tokens_before_fault(action, answer)), None
        self._stats.sent(record, len(answer.deltas))
        self._stats.end(record, "fault" if action.fault in _ENDINGS else "completed", action.fault)
        usage = Usage(request.prompt_tokens, len(answer.deltas))
        created_s = int(time.time())
        body = completion(_answer_id(record), request.model, created_s, answer.message(), finish_reason, usage)
        match action.fault:
            case "cut":
                connection.respond_cut(body[: len(body) // 2], len(body))
            case "garbage":
                connection.respond(200, GARBAGE)
            case _:
                connection.respond(200, body)


def _tokens_before_fault(action: Action, answer: Answer) -> int:
    if action.after_tokens is not None:
        return action.after_tokens
    return 0 if action.fault == "hang" else len(answer.deltas) // 2


def _answer_id(record: RequestRecord) -> str:
    return f"chatcmpl-sim{record.id:012x}"


def _subject(http: Request, request: ChatRequest) -> Subject:
    return Subject(
        kind="chat",
        model=request.model,
        text=request.user_message,
        texts=request.texts(),
        headers=http.headers,
        structured=request.is_structured,
    )
