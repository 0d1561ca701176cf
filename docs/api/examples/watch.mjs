// Watch a run with EventSource: a new ticket for every connection. Browsers; Node with --experimental-eventsource.
//
// node --experimental-eventsource watch.mjs http://127.0.0.1:8000 "$token" "$run_id"

const TERMINAL = ["run_finished", "run_failed", "run_cancelled"];
const TYPES = ["run_started", "run_restarted", "message_delta", "message_completed", ...TERMINAL];

export function watch(baseUrl, token, runId, onEvent) {
  let lastId = "";
  let failures = 0;
  const openLater = () => (failures += 1) < 30 && setTimeout(open, Math.min(200 * 2 ** failures, 5_000));

  async function open() {
    const request = { method: "POST", headers: { Authorization: `Bearer ${token}` } };
    const answer = await fetch(`${baseUrl}/api/v1/runs/${runId}/ticket`, request).catch(() => null);
    if (!answer?.ok) return openLater();
    const { url } = await answer.json();
    const source = new EventSource(`${baseUrl}${url}&last_event_id=${lastId}`);
    // Left alone, EventSource would connect again with the ticket that is used up.
    source.onerror = () => (source.close(), openLater());
    for (const type of TYPES) {
      source.addEventListener(type, ({ data, lastEventId }) => {
        [lastId, failures] = [lastEventId, 0];
        if (TERMINAL.includes(type)) source.close();
        onEvent(JSON.parse(data));
      });
    }
  }
  open();
}

if (globalThis.process?.argv[1]?.endsWith("watch.mjs")) {
  watch(...process.argv.slice(2), (event) => {
    if (event.type === "message_delta") process.stdout.write(event.text);
    if (event.type === "run_restarted") console.log("\n[starting again]"); // What was printed of this answer is void.
    if (TERMINAL.includes(event.type)) console.log(`\n[${event.type}]`);
  });
}
