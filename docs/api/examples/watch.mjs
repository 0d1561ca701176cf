// Watches a run with EventSource, with a new ticket for every connection. Browsers; Node with
// --experimental-eventsource.
//
// node --experimental-eventsource watch.mjs http://127.0.0.1:8000 "$token" "$run_id"

const TERMINAL = ["run_finished", "run_failed", "run_cancelled", "run_interrupted"];
const TYPES = ["run_started", "run_restarted", "message_delta", "message_completed", ...TERMINAL]; // Add what you need.

// Resolves when the run has ended. Resolves to the run if its last events are no longer available: then show its
// message. Throws when it gives up.
// `getToken(refresh)` returns the access token: the current one, or after a 401 a new one from POST /auth/refresh.
export async function watch(baseUrl, getToken, runId, onEvent, silenceMs = 60_000) {
  const runUrl = `${baseUrl}/api/v1/runs/${runId}`;
  let lastId = "";

  async function call(method, url, refresh = false) {
    const headers = { Authorization: `Bearer ${await getToken(refresh)}` };
    const answer = await fetch(url, { method, headers, signal: AbortSignal.timeout(10_000) });
    if (answer.status === 401 && !refresh) return call(method, url, true);
    if ([429, 502, 503, 504].includes(answer.status)) throw new TypeError("try again");
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  // One connection, until "end", "error" or "silence". By itself, EventSource would reconnect with the used ticket.
  const listen = (url) =>
    new Promise((resolve) => {
      const source = new EventSource(url);
      let timer;
      const close = (how) => (clearTimeout(timer), source.close(), resolve(how));
      const renew = () => (clearTimeout(timer), (timer = setTimeout(close, silenceMs, "silence")));
      renew();
      source.onerror = () => close("error");
      for (const type of TYPES) {
        source.addEventListener(type, ({ data, lastEventId }) => {
          lastId = lastEventId;
          TERMINAL.includes(type) ? close("end") : renew();
          onEvent(JSON.parse(data));
        });
      }
    });

  for (let failures = 0; failures < 30; failures += 1) {
    const waitMs = Math.min(200 * 2 ** failures, 5_000);
    try {
      const [{ url }, before] = [await call("POST", `${runUrl}/ticket`), lastId];
      const how = await listen(`${baseUrl}${url}&last_event_id=${lastId}`);
      if (how === "end") return undefined;
      if (how === "silence" || lastId !== before) failures = 0; // EventSource hides the pings: a tool may be running.
      // EventSource also hides the status, including the 204 that means that there are no more events.
      const run = lastId === before && (await call("GET", runUrl));
      if (run && !["pending", "running"].includes(run.status)) return run;
    } catch (error) {
      if (!(error instanceof TypeError || error.name === "TimeoutError")) throw error; // fetch throws these for a cut.
    }
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
  throw new Error("the run cannot be followed");
}

if (globalThis.process?.argv[1]?.endsWith("watch.mjs")) {
  const [baseUrl, token, runId] = process.argv.slice(2);
  const print = ({ type, text }) => process.stdout.write(type === "message_delta" ? text : `\n[${type}]\n`);
  const run = await watch(baseUrl, () => token, runId, print); // After run_restarted, the text before it is void.
  if (run) console.log(`\n[run_restarted]\n${run.message?.content}\n[${run.status}]`);
}
