"""The parts of a measurement. Each starts its own mesh, prints its results and returns the figures for the JSON."""

import tempfile
from pathlib import Path
from typing import Any

from bench.capacity import hashes_per_s
from bench.costs import Batch, measure_batch
from bench.counts import measure_counts
from bench.frontier import as_json as steps_as_json
from bench.frontier import climb, frontier
from bench.generator import Generator, open_generator
from bench.logins import open_people
from bench.memories import SEED, fill
from bench.recall import measure_recall
from bench.report import say, table
from bench.size import Size
from bench.stack import BURST, PACED, Mesh, Pace, open_mesh
from bench.statistics import as_json, spread, spreads
from bench.storm import STORM, Chat, answers, chat_ends, chat_p99_ratios, logins_ms, logins_per_s, measure_storm


async def run_counts(size: Size) -> tuple[dict[str, Any], int]:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        async with open_mesh(Path(folder), BURST, counts_statements=True) as mesh, open_generator() as generator:
            flat = await measure_counts(mesh, generator, turns=size.thread_turns, part=size.thread_part)
    table(f"counts per turn, from turn {size.thread_part + 1} of one thread", flat.early)
    table(f"the last {size.thread_part} of {size.thread_turns}", flat.late)
    for line in flat.grown:
        say(f"GROWN: {line}")
    return {"early": dict(flat.early), "late": dict(flat.late)}, 1 if flat.grown else 0


async def run_costs(size: Size) -> dict[str, Any]:
    paced, by_level = await _paced(size)
    burst = await _batches(size, BURST, has_background=False)
    background = await _batches(size, PACED, has_background=True)
    levels = {
        str(streams): spreads([batch.cpu_ms_per_turn for batch in batches]) for streams, batches in by_level.items()
    }
    felt = {str(streams): spreads([batch.latency for batch in batches]) for streams, batches in by_level.items()}
    cpu = spreads([batch.cpu_ms_per_turn for batch in paced])
    switches = spreads([batch.switches_per_turn for batch in paced])
    cpu_burst = spreads([batch.cpu_ms_per_turn for batch in burst])
    cpu_background = spreads([batch.cpu_ms_per_turn for batch in background])
    table(f"CPU, ms a turn: {size.streams} streams at once, 100 tokens, 50 a second", cpu)
    for streams, figures in levels.items():
        table(f"CPU, ms a turn: {streams} streams at once", figures)
        table("what clients felt, ms", felt[streams])
    table("the same with memories kept and a tenth of the turns judged", cpu_background)
    table("CPU, ms a turn: the whole answer in one burst", cpu_burst)
    table("times a turn that a thread was given a core", switches)
    latency = spreads([batch.latency for batch in paced])
    table("what clients felt, ms", latency)
    return {
        "cpu_ms_per_turn": {name: one.median for name, one in cpu.items()},
        "cpu_ms_per_turn_spread": as_json(cpu),
        "cpu_ms_per_turn_by_streams": {streams: as_json(figures) for streams, figures in levels.items()},
        "latency_ms_by_streams": {streams: as_json(figures) for streams, figures in felt.items()},
        "cpu_ms_per_turn_with_background": as_json(cpu_background),
        "cpu_ms_per_turn_burst": as_json(cpu_burst),
        "switches_per_turn": as_json(switches),
        "latency_ms": as_json(latency),
        "memory_mib": paced[-1].memory_mib,
        "turns_per_s_burst": as_json(spreads([{"turns_per_s": batch.turns_per_s} for batch in burst])),
        "ends": [dict(batch.ends) for batch in (*paced, *burst, *background)],
    }


async def _paced(size: Size) -> tuple[list[Batch], dict[int, list[Batch]]]:
    """The batches of the main measurement, and those of every other level of load on the same mesh."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        async with open_mesh(Path(folder), PACED) as mesh, open_generator() as generator:
            main = await _repeated(size, mesh, generator, size.streams)
            return main, {streams: await _repeated(size, mesh, generator, streams) for streams in size.levels}


async def _batches(size: Size, pace: Pace, *, has_background: bool) -> list[Batch]:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        async with open_mesh(Path(folder), pace, has_background=has_background) as mesh, open_generator() as generator:
            return await _repeated(size, mesh, generator, size.streams)


async def _repeated(size: Size, mesh: Mesh, generator: Generator, streams: int) -> list[Batch]:
    # Warms caches, pools and query plans.
    await measure_batch(mesh, generator, streams=streams, turns=streams)
    batches = []
    for _ in range(size.repeats):
        batches.append(await measure_batch(mesh, generator, streams=streams, turns=size.turns_of(streams)))
        say(f"{streams} streams: total {batches[-1].cpu_ms_per_turn['total']:.1f} ms a turn, {dict(batches[-1].ends)}")
    return batches


async def run_frontier(size: Size) -> dict[str, Any]:
    steps = []
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        async with open_mesh(Path(folder), PACED) as mesh, open_generator() as generator:
            async for step in climb(mesh, generator, size.rates, size.step_s):
                steps.append(step)
                added = step.latency
                say(
                    f"{step.rate:.0f} turns/s: added to a turn p50 {added['added_turn_ms_p50']}, "
                    f"p99 {added['added_turn_ms_p99']} ms; to the first token p50 {added['added_first_token_ms_p50']}, "
                    f"p99 {added['added_first_token_ms_p99']} ms; {dict(step.ends)}"
                )
    table("turns/s at which the p99 of the latency added to a turn stays below", frontier(steps))
    return {"frontier_turns_per_s": frontier(steps), "steps": steps_as_json(steps)}


async def run_recall(size: Size) -> tuple[dict[str, Any], int]:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        async with open_mesh(Path(folder), BURST) as mesh:
            embedding = mesh.stack.environments.models.embedding
            owner = await fill(mesh.database_url, embedding, users=size.memory_users, each=size.memories_each)
            recalls = spreads([await measure_recall(mesh, owner, size.recalls) for _ in range(size.repeats)])
    rows = size.memory_users * size.memories_each
    table(f"recall, {size.memories_each} memories of the user and {rows} in the table (seed {SEED})", recalls)
    figures = {"seed": SEED, "rows": rows, "rows_of_user": size.memories_each, **as_json(recalls)}
    return figures, 1 if recalls["recall_at_10"].lowest < 1 else 0


async def run_storm(size: Size) -> dict[str, Any]:
    capacity = spread([hashes_per_s(size.hashing_s) for _ in range(size.repeats)])
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        async with (
            open_mesh(Path(folder), PACED) as mesh,
            open_generator() as generator,
            open_people(mesh.url, size.logins) as people,
        ):
            reached = spread([await logins_per_s(people, size.logins) for _ in range(size.repeats)])
            chat = Chat(mesh, generator, size.storm_turns_per_s, size.storm_s)
            await chat.warm_up()
            storms = [await measure_storm(chat, people, STORM * reached.median) for _ in range(size.repeats)]
    figures = {
        "per_s": {"hashes": capacity, "logins": reached},
        "logins_ms": spreads([logins_ms(storm) for storm in storms]),
        "chat_alone": spreads([storm.alone for storm in storms]),
        "chat_in_storm": spreads([storm.beside for storm in storms]),
        "chat_p99_ratio": spreads([chat_p99_ratios(storm, PACED) for storm in storms]),
        "cores": spreads([storm.cores for storm in storms]),
    }
    for name, figure in figures.items():
        table(f"storm of logins: {name}", figure)
    ends = {"answers": answers(storms), "chat_ends": chat_ends(storms)}
    for name, counted in ends.items():
        table(f"storm of logins: {name}", counted)
    share = round(reached.median / capacity.median, 3)
    return {"share_of_hashes": share, **{name: as_json(figure) for name, figure in figures.items()}, **ends}
