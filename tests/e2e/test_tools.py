"""The built-in tools, called by the model."""

import re

from support.api import User


async def test_calculate_gives_the_model_its_result(user: User) -> None:
    turn = await user.chat(
        '[[sim:tool=calculate {"expression": "6 * 7"}]] [[sim:reply=It is {tool_result}.]] How much is 6 times 7?'
    )

    assert turn.text == "It is 42."
    started, finished = turn.first("tool_started"), turn.first("tool_finished")
    assert (started["tool"], started["arguments"]) == ("calculate", {"expression": "6 * 7"})
    assert (finished["tool"], finished["content"], finished["is_error"]) == ("calculate", "42", False)
    assert started["call_id"] == finished["call_id"]
    order = [kind for kind in turn.types if kind not in ("message_delta", "memory_recalled")]
    assert order == ["run_started", "tool_started", "tool_finished", "message_completed", "run_finished"]


async def test_current_time_reaches_the_model(user: User) -> None:
    turn = await user.chat('[[sim:tool=current_time {"timezone": "Asia/Seoul"}]] [[sim:reply=Now: {tool_result}]]')

    assert re.search(r"Now: \w+, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d KST", turn.text)


async def test_several_tools_are_called_round_after_round(user: User) -> None:
    turn = await user.chat(
        '[[sim:tool=calculate {"expression": "2 + 2"}]] [[sim:tool=calculate {"expression": "3 * 3"}]] '
        "[[sim:reply=Done.]] Two sums, please."
    )

    assert [finished["content"] for finished in turn.all("tool_finished")] == ["4", "9"]
    assert turn.text == "Done."


async def test_tool_that_fails_tells_the_model_and_the_run_goes_on(user: User) -> None:
    turn = await user.chat('[[sim:tool=calculate {"expression": "1/0"}]] [[sim:reply=Sorry: {tool_result}]]')

    assert turn.first("tool_finished")["is_error"]
    assert turn.text.startswith("Sorry: ")
    assert turn.last.type == "run_finished"


async def test_unknown_tool_is_an_error_for_the_model_not_for_the_user(user: User) -> None:
    turn = await user.chat("[[sim:tool=launch_rocket {}]] [[sim:reply=I can't.]]")

    assert turn.first("tool_finished")["is_error"]
    assert turn.text == "I can't."


async def test_tools_without_end_are_stopped(user: User) -> None:
    turn = await user.chat('[[sim:tool_loop=calculate {"expression": "1+1"}]]')

    # Eight rounds at most; in the last one the model may not call tools.
    assert turn.types.count("tool_finished") == 7
    assert turn.last.type == "run_finished"
    assert turn.last.fields["finish_reason"] == "tool_rounds"
