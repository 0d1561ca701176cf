"""`python -m chaos schedules --count 200 --seed 1`: runs schedules on one cluster, one line each, then a verdict."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from chaos.campaign import run_campaign, say
from chaos.cluster import open_cluster


async def _schedules(count: int, seed: int, data_dir: Path) -> int:
    async with open_cluster(data_dir) as cluster:
        campaign = await run_campaign(cluster, count=count, seed=seed, histories=data_dir / "histories")
    say(campaign.verdict())
    return 0 if campaign.has_passed else 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    schedules = commands.add_parser("schedules", help="seeded schedules of faults, checked")
    schedules.add_argument("--count", type=int, default=15, help="how many; their seeds are consecutive")
    schedules.add_argument("--seed", type=int, default=1, help="of the first")
    schedules.add_argument("--data-dir", type=Path, help="kept afterwards; a temporary folder when absent")
    options = parser.parse_args(arguments)
    data_dir = options.data_dir or Path(tempfile.mkdtemp(prefix="mesh-chaos-"))
    try:
        return asyncio.run(_schedules(options.count, options.seed, data_dir.resolve()))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
