import httpx
from mesh_dev.mesh_client import Event, events_of

STREAM = (
    ": ping\n\n"
    'id: r:1:1\nevent: run_started\ndata: {"type": "run_started", "seq": 1}\n\n'
    ": ping\n\n"
    ": come back\nretry: 300\n\n"
    'id: r:1:2\nevent: message_delta\ndata: {"type": "message_delta", "seq": 2, "text": "a: b\u2028c"}\n\n'
    "id: r:1:3\nevent: run_fin"
)


async def test_frames_are_read_and_pings_and_a_cut_frame_are_not() -> None:
    response = httpx.Response(200, text=STREAM)

    events = [event async for event in events_of(response)]

    assert events == [
        Event("r:1:1", "run_started", {"type": "run_started", "seq": 1}),
        Event("r:1:2", "message_delta", {"type": "message_delta", "seq": 2, "text": "a: b\u2028c"}),
    ]
    assert (events[1].run_id, events[1].seq, events[1].is_terminal) == ("r", 2, False)
