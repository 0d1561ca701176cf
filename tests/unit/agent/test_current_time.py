from datetime import timedelta

import pytest
from fakes.clock import FakeClock
from langchain_core.tools import ToolException
from mesh_agent.tools.current_time import current_time_tool


async def test_time_is_told_in_utc_when_no_zone_is_named() -> None:
    assert await current_time_tool(FakeClock()).call({}) == "Tuesday, 2026-11-24 12:00:00 UTC (UTC+0000)"


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("Europe/Berlin", "Tuesday, 2026-11-24 13:00:00 CET (UTC+0100)"),
        ("Asia/Kathmandu", "Tuesday, 2026-11-24 17:45:00 +0545 (UTC+0545)"),
        ("Pacific/Kiritimati", "Wednesday, 2026-11-25 02:00:00 +14 (UTC+1400)"),
    ],
)
async def test_time_is_told_in_the_zone_named(zone: str, expected: str) -> None:
    assert await current_time_tool(FakeClock()).call({"timezone": zone}) == expected


async def test_summer_time_is_kept() -> None:
    clock = FakeClock()
    clock.advance(timedelta(days=200))

    assert await current_time_tool(clock).call({"timezone": "Europe/Berlin"}) == (
        "Saturday, 2027-06-12 14:00:00 CEST (UTC+0200)"
    )


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "Europe", "../../etc/passwd", "/etc/localtime", "a\x00b", "x" * 5_000, "\ud800", "."]
)
async def test_a_zone_that_is_none_is_refused_in_words(zone: str) -> None:
    with pytest.raises(ToolException, match="IANA"):
        await current_time_tool(FakeClock()).call({"timezone": zone})
