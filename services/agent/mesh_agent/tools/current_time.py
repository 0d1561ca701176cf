"""The tool for the current time."""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from langchain_core.tools import ToolException, tool
from mesh_common.clock import Clock

from mesh_agent.tools.tool import Tool, of_function


def current_time_tool(clock: Clock) -> Tool:
    @tool
    async def current_time(timezone: str = "UTC") -> str:
        """The current date and time. `timezone` is an IANA name such as `Europe/Berlin`; UTC by default."""
        try:
            zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ToolException("This time zone is not known. Use an IANA name such as Europe/Berlin.") from error
        return _formatted(clock.now().astimezone(zone))

    return of_function(current_time)


def _formatted(now: datetime) -> str:
    return now.strftime("%A, %Y-%m-%d %H:%M:%S %Z (UTC%z)")
