import asyncio
import signal
import sys

import uvloop
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from simulator.server import open_simulator
from simulator.settings import SimulatorSettings


async def _serve(settings: SimulatorSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    async with open_simulator(settings) as base_url:
        sys.stdout.write(f"simulator ready on {base_url}\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> int:
    try:
        settings = CliApp.run(SimulatorSettings)
    except (ValidationError, SettingsError) as invalid:
        sys.stderr.write(f"simulator: {invalid}\n")
        return 2
    try:
        uvloop.run(_serve(settings))
    except OSError as refused:
        sys.stderr.write(f"simulator: cannot listen: {refused.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
