"""`python -m bench.crowd`: runs its own mesh under load from Locust users, and reports what users and mesh measured."""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.report import RESULTS, say
from bench.resources import held
from bench.stack import PACED, Mesh, open_mesh

_LOADTEST: Final = Path(__file__).parents[1]


async def crowd(arguments: argparse.Namespace) -> int:
    """Returns Locust's exit code: 1 if a threshold is exceeded."""
    arguments.results.mkdir(parents=True, exist_ok=True)
    report = arguments.results / "load.html"
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        async with open_mesh(Path(folder), PACED, has_background=True) as mesh:
            before = held(mesh.pids)
            code = await _locust(mesh, arguments, report)
            after = held(mesh.pids)
    for name in after:
        cpu_s, memory_mib = after[name].cpu_s - before[name].cpu_s, after[name].memory_mib
        say(f"{name}: {cpu_s:.1f} s CPU, {memory_mib:.0f} MiB")
    say(f"report: {report}")
    return code


async def _locust(mesh: Mesh, arguments: argparse.Namespace, report: Path) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "locust",
        f"--locustfile={_LOADTEST / 'locustfile.py'}",
        "--headless",
        "--only-summary",
        f"--host={mesh.url}",
        f"--users={arguments.users}",
        f"--spawn-rate={arguments.rate}",
        f"--run-time={arguments.duration}",
        f"--html={report}",
        *arguments.locust,
        stderr=subprocess.STDOUT,
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    parser.add_argument("--users", type=int, default=1_500)
    parser.add_argument("--rate", type=float, default=15.0, help="users added per second")
    parser.add_argument("--duration", default="180s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the report")
    parser.add_argument("locust", nargs="*", help="additional options for Locust, after --")
    return asyncio.run(crowd(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
