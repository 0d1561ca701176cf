// Start a run, print its answer as it is written, come back after every cut. Node 20 or newer; `follow` in browsers too.
//
// node follow.mjs http://127.0.0.1:8000 "$token" "$thread_id" "Tell me one thing about tides."

const TERMINAL = ["run_finished", "run_failed", "run_cancelled"];
const TRY_AGAIN = [429, 502, 503, 504];

// The id and the content of every frame; comments and frames without data are passed over.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const frames = (text + value).split("\n\n");
    text = frames.pop();
    for (const frame of frames) {
      const fields = Object.fromEntries(frame.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
      if (fields.data) yield [fields.id, JSON.parse(fields.data)];
    }
  }
}

// One request, sent again until the run has ended: the key starts one run only, the id says where to go on.
export async function* follow(baseUrl, token, threadId, message) {
  const url = `${baseUrl}/api/v1/threads/${threadId}/runs/stream`;
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  headers["Idempotency-Key"] = crypto.randomUUID();
  for (let failures = 0; failures < 30; failures += 1) {
    let waitS = Math.min(0.2 * 2 ** failures, 5);
    try {
      const response = await fetch(url, { method: "POST", headers, body: JSON.stringify({ message }) });
      if (response.status === 204) return; // All events were seen before, or the run ended more than 24 hours ago.
      if (TRY_AGAIN.includes(response.status)) {
        waitS = Number(response.headers.get("Retry-After") ?? waitS);
      } else if (!response.ok) {
        throw new Error(`${response.status} ${await response.text()}`);
      } else {
        for await (const [id, event] of events(response)) {
          headers["Last-Event-ID"] = id;
          failures = 0;
          yield event;
          if (TERMINAL.includes(event.type)) return;
        }
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // fetch's word for a cut: the run goes on.
    }
    await new Promise((resolve) => setTimeout(resolve, waitS * 1000));
  }
  throw new Error("the run cannot be followed");
}

if (globalThis.process?.argv[1]?.endsWith("follow.mjs")) {
  for await (const event of follow(...process.argv.slice(2))) {
    if (event.type === "message_delta") process.stdout.write(event.text);
    if (event.type === "run_restarted") console.log("\n[starting again]"); // What was printed of this answer is void.
    if (TERMINAL.includes(event.type)) console.log(`\n[${event.type}]`);
  }
}
