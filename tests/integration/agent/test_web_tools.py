"""The tools for the web in a whole agent: off by default, and called by a model."""

import subprocess
import sys

import orjson
import pytest
from mesh_agent.settings import AgentSettings
from mesh_agent.web_settings import WebSettings
from pydantic import ValidationError
from simulator.client import SimulatorAdmin
from support.agent import agent_settings, running_agent, some_user
from support.mesh import TestMesh
from support.web_server import Page, running_web_server

_LOADED = "import sys, mesh_agent.bootstrap; print(*sys.modules)"


async def test_model_searches_and_reads_a_page(own_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin) -> None:
    del simulator
    async with running_web_server() as web:
        web.pages["/page"] = Page("<title>Rooms</title><h1>Rooms</h1><p>Room 7 has a projector.</p>")
        web.pages["/search"] = Page(orjson.dumps({"results": [{"title": "Rooms", "url": web.url("/page")}]}))
        settings = agent_settings(
            own_mesh,
            model_url,
            AGENT_WEB_FETCH="true",
            AGENT_WEB_ALLOW='["127.0.0.1"]',
            AGENT_WEB_PORTS=f"[{web.port}]",
            AGENT_WEB_SEARCH_PROVIDER="searxng",
            AGENT_WEB_SEARXNG_URL=web.url(""),
        )
        message = (
            '[[sim:tool=web_search {"query": "rooms"}]] '
            f'[[sim:tool=fetch_url {{"url": "{web.url("/page")}"}}]] '
            '[[sim:tool=fetch_url {"url": "http://169.254.169.254/latest/"}]] [[sim:reply=Done.]]'
        )
        async with (
            running_agent(own_mesh, settings) as agent,
            agent.starting(some_user(), message) as started,
        ):
            events = await started.rest()

    finished = [event.tool_finished for event in events if event.WhichOneof("event") == "tool_finished"]
    assert [(each.tool, each.is_error) for each in finished] == [
        ("web_search", False),
        ("fetch_url", False),
        ("fetch_url", True),
    ]
    assert web.url("/page") in finished[0].content
    assert "Room 7 has a projector." in finished[1].content
    assert "169.254" not in finished[2].content
    assert events[-1].WhichOneof("event") == "run_finished"


async def test_tools_are_off_by_default(own_mesh: TestMesh, model_url: str) -> None:
    message = '[[sim:tool=fetch_url {"url": "http://example.com/"}]] [[sim:reply={tool_result}]]'
    async with (
        running_agent(own_mesh, agent_settings(own_mesh, model_url)) as agent,
        agent.starting(some_user(), message) as started,
    ):
        events = await started.rest()

    [finished] = [event.tool_finished for event in events if event.WhichOneof("event") == "tool_finished"]
    assert finished.content == "There is no tool 'fetch_url'."


def test_agent_without_the_tools_imports_nothing_for_them() -> None:
    loaded = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True).stdout.split()

    assert "mesh_agent.tools.web.source" in loaded
    unused = {"trafilatura", "lxml", "ddgs", "primp", "mesh_agent.tools.web.fetch", "mesh_agent.tools.web.search"}
    assert unused.isdisjoint(loaded)


@pytest.mark.parametrize(
    "wrong",
    [
        {"web_search_provider": "searxng"},
        {"web_search_provider": "google"},
        {"web_ddgs_backends": ["books"]},
        {"web_ddgs_backends": []},
        {"web_search_region": "English"},
        {"web_allow": ["10.0.0.1/8"]},
        {"web_allow": ["https://wiki"]},
        {"web_deny": ["10.0.0"]},
        {"web_deny": ["EXAMPLE.com"]},
        {"web_ports": [0]},
        {"web_timeout_s": 29},
    ],
)
def test_setting_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WebSettings(**wrong)  # type: ignore[arg-type] # wrong on purpose


def test_agent_has_these_settings() -> None:
    assert WebSettings.model_fields.keys() < AgentSettings.model_fields.keys()
