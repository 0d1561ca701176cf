// Starts a run, prints its events as they arrive, reconnects after every cut. Needs eventsource-parser; browsers or
// Node 20.
//
// node follow.mjs http://127.0.0.1:8000 "$token" "$thread_id" "Tell me one thing about tides."

import { EventSourceParserStream } from "eventsource-parser/stream";

// The Idempotency-Key makes repeated requests start only one run; the last event's id says where to continue.
// `getToken(refresh)` returns the access token: the current one, or after a 401 a new one from POST /auth/refresh.
export async function* follow(baseUrl, getToken, threadId, message, silenceMs = 60_000) {
  const url = `${baseUrl}/api/v1/threads/${threadId}/runs/stream`;
  const headers = { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() };
  const request = { method: "POST", headers, body: JSON.stringify({ message }) };
  for (let failures = 0, status, timer; failures < 30; failures += 1) {
    let waitS = Math.min(0.2 * 2 ** failures, 5);
    const [refresh, cut] = [status === 401, new AbortController()];
    const leave = () => cut.abort(new TypeError("silent"));
    const renew = () => (clearTimeout(timer), (timer = setTimeout(leave, silenceMs)));
    try {
      headers.Authorization = `Bearer ${await getToken(refresh)}`;
      renew();
      const response = await fetch(url, { ...request, signal: cut.signal });
      status = response.status;
      const isAgain = [429, 502, 503, 504].includes(status) || (status === 401 && !refresh);
      if (isAgain) waitS = response.headers.get("Retry-After") ?? waitS;
      else if (status === 204) return; // All events were seen, or the run ended more than 24 hours ago.
      else if (status !== 200) throw new Error(`${status} ${await response.text()}`);
      const parser = new EventSourceParserStream({ onComment: renew });
      const events = isAgain ? [] : response.body.pipeThrough(new TextDecoderStream()).pipeThrough(parser);
      for await (const { id, event, data } of events) {
        renew();
        [headers["Last-Event-ID"], failures] = [id, 0];
        yield JSON.parse(data);
        if (["run_finished", "run_failed", "run_cancelled", "run_interrupted"].includes(event)) return;
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // Thrown by fetch for a cut, by us for a silent minute.
    } finally {
      leave();
      clearTimeout(timer);
    }
    await new Promise((resolve) => setTimeout(resolve, waitS * 1_000));
  }
  throw new Error("the run cannot be followed");
}

if (globalThis.process?.argv[1]?.endsWith("follow.mjs")) {
  const [baseUrl, token, threadId, message] = process.argv.slice(2);
  // After run_restarted, the text before it is void.
  for await (const { type, text } of follow(baseUrl, () => token, threadId, message))
    process.stdout.write(type === "message_delta" ? text : `\n[${type}]\n`);
}
