"""The agent's proto as a newer release might have it: a new event, a new terminal event, new fields and values.

Built on demand from the text of agent.proto, in a descriptor pool separate from that of the generated code.
"""

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PROTO = Path(__file__).parents[2] / "proto"
_FILE = "mesh/agent/v1/agent.proto"
_PACKAGE = "mesh.agent.v1"
# A line of the text, and the line to insert after it.
_ADDITIONS = (
    ("    ToolFinished tool_finished = 16;", "    PlanMade plan_made = 17;"),
    ("    RunInterrupted run_interrupted = 23;", "    RunPaused run_paused = 24;"),
    ("message MessageDelta {", "  string language = 9;"),
    ("message Usage {", "  uint64 cached_input_tokens = 9;"),
    ("message StartRunRequest {", "  optional string tone = 99;"),
    ("message RunAcknowledged {", "  string region = 99;"),
    ("  RUN_STATUS_INTERRUPTED = 6;", "  RUN_STATUS_PAUSED = 7;"),
    ("  MESSAGE_ROLE_NOTE = 3;", "  MESSAGE_ROLE_NARRATOR = 99;"),
    ("  MULTITASK_ROLLBACK = 4;", "  MULTITASK_MERGE = 99;"),
    ("  ON_DISCONNECT_CANCEL = 2;", "  ON_DISCONNECT_PAUSE = 99;"),
)
_MESSAGES = """
message PlanMade { repeated string steps = 1; }
message RunPaused { string question = 1; }
"""


class NewerRelease:
    """Gives its messages and enum values by their names in the proto."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        pool: Any = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        self._pool = pool

    def message(self, name: str) -> Any:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))

    def value(self, enum: str, name: str) -> int:
        return int(self._pool.FindEnumTypeByName(f"{_PACKAGE}.{enum}").values_by_name[name].number)


@cache
def newer_release() -> NewerRelease:
    text = (_PROTO / _FILE).read_text()
    for anchor, addition in _ADDITIONS:
        assert text.count(f"{anchor}\n") == 1, anchor
        text = text.replace(f"{anchor}\n", f"{anchor}\n{addition}\n")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _FILE
        file.parent.mkdir(parents=True)
        file.write_text(text + _MESSAGES)
        described = Path(folder) / "described"
        command = (f"--proto_path={folder}", f"--descriptor_set_out={described}", "--include_imports", _FILE)
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *command], check=True)
        return NewerRelease(descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes()))
