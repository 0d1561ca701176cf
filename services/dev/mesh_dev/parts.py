"""The stack's own Python programs other than the five services, and how each is started."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh_dev.process import ChildProcess, Program
from mesh_dev.wait import Probe, Waiter, http_healthy

LOADTEST = Path(__file__).parents[3] / "loadtest"


class PythonPart:
    """One `python -m mesh_dev.<module>` and its readiness probe."""

    def __init__(self, program: Program, probe: Probe, data_dir: Path, waiter: Waiter | None = None) -> None:
        self._probe = probe
        self._waiter = waiter or Waiter()
        self.child = ChildProcess(program, data_dir / "log")

    async def start(self) -> float:
        """Returns the seconds until the part was ready."""
        await self.child.start()
        return await self._waiter.ready(self.child.name, self._probe, self.child)

    async def stop(self) -> None:
        await self.child.stop()

    async def restart(self) -> float:
        await self.stop()
        return await self.start()

    async def kill(self) -> None:
        """Ends the part as a crash would."""
        self.child.kill()
        await self.child.wait_ended()


def model_server(data_dir: Path, port: int, waiter: Waiter | None = None) -> PythonPart:
    """The embedded model (model_server.py)."""
    program = _program("model", "model_server", {"--port": port})
    return PythonPart(program, http_healthy(port), data_dir, waiter)


def embedding_server(data_dir: Path, port: int, waiter: Waiter | None = None) -> PythonPart:
    """The embedded embeddings (embedding_server.py)."""
    program = _program("embeddings", "embedding_server", {"--port": port}, {"OMP_NUM_THREADS": "1"})
    return PythonPart(program, http_healthy(port), data_dir, waiter)


def otlp_receiver(data_dir: Path, otlp_port: int, http_port: int, waiter: Waiter | None = None) -> PythonPart:
    """The receiver of traces (otlp_receiver.py)."""
    program = _program("traces", "otlp_receiver", {"--otlp-port": otlp_port, "--http-port": http_port})
    return PythonPart(program, http_healthy(http_port), data_dir, waiter)


def simulator(data_dir: Path, port: int, env: Mapping[str, str], waiter: Waiter | None = None) -> PythonPart:
    """The model simulator, for tests. It is part of the repository, not of a package."""
    program = python_program("simulator", ["simulator", f"--port={port}"], {"PYTHONPATH": str(LOADTEST), **env})
    return PythonPart(program, http_healthy(port, "/healthz"), data_dir, waiter)


def python_program(
    name: str, module: Sequence[str], env: Mapping[str, str] | None = None, *, stop_timeout_s: float = 10.0
) -> Program:
    """`python -m <module> <arguments>`, with the running Python."""
    return Program(
        name=name,
        argv=[sys.executable, "-m", *module],
        # Nine programs import the same packages; without cached bytecode, the start takes two to three times as long.
        env={"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "", **(env or {})},
        stop_timeout_s=stop_timeout_s,
    )


def _program(name: str, module: str, options: Mapping[str, int], env: Mapping[str, str] | None = None) -> Program:
    arguments = [f"{option}={value}" for option, value in options.items()]
    return python_program(name, [f"mesh_dev.{module}", *arguments], env)
