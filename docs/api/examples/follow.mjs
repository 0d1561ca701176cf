// Start a run, print its answer as it is written, come back after every cut. Node 20 or newer; browsers too.
//
// node follow.mjs http://127.0.0.1:8000 "$token" "$thread_id" "Tell me one thing about tides."

const TERMINAL = ["run_finished", "run_failed", "run_cancelled"];
const TRY_AGAIN = [429, 502, 503, 504];

// The id and the content of every event; comments and frames without data are passed over.
async function* events(body, onChunk) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = "", chunk; !(chunk = await reader.read()).done; ) {
    onChunk();
    const frames = (text + chunk.value).split("\n\n");
    text = frames.pop();
    for (const frame of frames) {
      const fields = Object.fromEntries(frame.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
      if (fields.data) yield [fields.id, JSON.parse(fields.data)];
    }
  }
}

// One request until the run has ended: its key starts one run only, the id of the last event says where to go on.
// `getToken(refresh)` gives the access token: the one you have, or after a 401 the next, by POST /auth/refresh.
export async function* follow(baseUrl, getToken, threadId, message, silenceMs = 60_000) {
  const url = `${baseUrl}/api/v1/threads/${threadId}/runs/stream`;
  const headers = { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() };
  for (let failures = 0, status, before; failures < 30; failures += 1) {
    let waitS = Math.min(0.2 * 2 ** failures, 5);
    const controller = new AbortController();
    let timer;
    const renew = () => (clearTimeout(timer), (timer = setTimeout(() => controller.abort(), silenceMs)));
    try {
      headers.Authorization = `Bearer ${await getToken((before = status) === 401)}`;
      const request = { method: "POST", headers, body: JSON.stringify({ message }), signal: controller.signal };
      renew();
      const response = await fetch(url, request);
      status = response.status;
      if (status === 204) return; // All events were seen before, or the run ended more than 24 hours ago.
      if (TRY_AGAIN.includes(status) || (status === 401 && before !== 401)) {
        waitS = Number(response.headers.get("Retry-After") ?? waitS);
      } else if (status !== 200) {
        throw new Error(`${status} ${await response.text()}`);
      } else {
        for await (const [id, event] of events(response.body, renew)) {
          [headers["Last-Event-ID"], failures] = [id, 0];
          yield event;
          if (TERMINAL.includes(event.type)) return;
        }
      }
    } catch (error) {
      // fetch's word for a cut is TypeError; the other is ours, after a minute of silence. The run goes on.
      if (!(error instanceof TypeError || controller.signal.aborted)) throw error;
    } finally {
      clearTimeout(timer);
      controller.abort(); // Closes the connection when the caller leaves the loop.
    }
    await new Promise((resolve) => setTimeout(resolve, waitS * 1000));
  }
  throw new Error("the run cannot be followed");
}

if (globalThis.process?.argv[1]?.endsWith("follow.mjs")) {
  const [baseUrl, token, threadId, message] = process.argv.slice(2);
  for await (const { type, text } of follow(baseUrl, () => token, threadId, message)) {
    if (type === "message_delta") process.stdout.write(text);
    if (["run_restarted", ...TERMINAL].includes(type)) console.log(`\n[${type}]`); // A restart voids what was printed.
  }
}
