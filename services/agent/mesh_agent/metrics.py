"""The agent's own metrics, in addition to those of every service."""

from typing import Final

from mesh_common.process.metrics import LATENCY_BUCKETS_S
from prometheus_client import Counter, Gauge, Histogram

RUNS_ENDED: Final = Counter("mesh_agent_runs_total", "Runs that ended, by status.", ("status",))
RUNS_RUNNING: Final = Gauge("mesh_agent_runs_running", "Runs this replica executes.")
RUNS_UNENDED: Final = Gauge(
    "mesh_agent_runs_unended", "Runs of all replicas that have not ended, by status.", ("status",)
)
FOLLOWERS: Final = Gauge("mesh_agent_followers", "Streams that follow a run on this replica.")
FIRST_TOKEN_SECONDS: Final = Histogram(
    "mesh_agent_first_token_seconds",
    "Time from the claim of an attempt to its first new token. Text that a takeover repeats does not count.",
    buckets=LATENCY_BUCKETS_S,
)
MODEL_CALLS: Final = Counter("mesh_agent_model_calls_total", "Calls to models, by result.", ("model", "result"))
MODEL_MISCONFIGURED: Final = Gauge(
    "mesh_agent_model_misconfigured",
    "1 while the provider refuses every call to the model for its key, account, address or name; an operator must act.",
    ("model",),
)
MODEL_TOKENS: Final = Counter(
    "mesh_agent_model_tokens_total", "Tokens billed to users, by the run's model and direction.", ("model", "direction")
)
MODEL_COST: Final = Counter(
    "mesh_agent_model_cost_usd_total", "Cost billed to users, by the run's model, in US dollars.", ("model",)
)
ASSISTANT_FAULTS: Final = Gauge(
    "mesh_agent_assistant_faults", "Faults in the files of AGENT_ASSISTANTS_DIR. Assistants stay as last valid."
)
ASSISTANT_RUNS_STOPPED: Final = Counter(
    "mesh_agent_assistant_runs_stopped_total", "Runs cancelled because their assistant was disabled."
)
MCP_SERVER_UP: Final = Gauge("mesh_agent_mcp_server_up", "1 while the tools of an MCP server are known.", ("server",))
MCP_REFUSED_TOOLS: Final = Gauge(
    "mesh_agent_mcp_refused_tools", "Tools that an MCP server lists and the agent does not take.", ("server",)
)
OPENAPI_UP: Final = Gauge("mesh_agent_openapi_up", "1 while the OpenAPI document of a server is known.", ("server",))
OPENAPI_REFUSED_OPERATIONS: Final = Gauge(
    "mesh_agent_openapi_refused_operations", "Operations of an OpenAPI document that cannot be tools.", ("server",)
)
LOOP_BLOCKED: Final = Counter(
    "mesh_agent_event_loop_blocked_total",
    "Times the event loop was blocked for a second, by the package of a graph or tool in code, or `agent`.",
    ("by",),
)
GRAPHS_UNUSABLE: Final = Gauge(
    "mesh_agent_graphs_unusable", "1 for each installed graph in code that could not be loaded.", ("graph",)
)
TOOLS_UNUSABLE: Final = Gauge(
    "mesh_agent_tools_unusable", "1 for each installed tool in code that could not be loaded.", ("tool",)
)
TOOL_CALLS: Final = Counter("mesh_agent_tool_calls_total", "Calls of tools, by result.", ("tool", "result"))
FETCHES: Final = Counter("mesh_agent_fetches_total", "Calls of fetch_url, by outcome.", ("outcome",))
OUTPUTS: Final = Counter(
    "mesh_agent_structured_answers_total",
    "Answers with a response_format: valid, invalid, and asked for once more (`repaired`).",
    ("result",),
)
RECALLS: Final = Counter("mesh_agent_recalls_total", "Recalls of memories, by result.", ("result",))
RETENTION_ROWS: Final = Counter(
    "mesh_agent_retention_rows_total", "Rows that retention has cleared, by kind.", ("kind",)
)
