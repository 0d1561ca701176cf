import pytest
from simulator.directives import DirectiveError, parse_directives, strip_directives
from simulator.rules import Action, ToolCall


@pytest.mark.parametrize(
    ("message", "action"),
    [
        ("[[sim:tokens=300]] tell me", Action(tokens=300)),
        ("say [[sim:reply=Good day, [friend].]]", Action(reply="Good day, [friend].")),
        ("[[sim:echo]]", Action(echo="user")),
        ("[[sim:prompt]]", Action(echo="prompt")),
        ("[[sim:fault=500]]", Action(fault="500")),
        ("[[sim:fault=cut@7]]", Action(fault="cut", after_tokens=7)),
        ("[[sim:fault=hang]][[sim:after=3]]", Action(fault="hang", after_tokens=3)),
        ("[[sim:ttft=250]] and [[sim:itl=20.5]]", Action(ttft_ms=250, itl_ms=20.5)),
        (
            '[[sim:tool=calculate {"expression": "2+2"}]]',
            Action(
                tool_calls=(ToolCall(name="calculate", arguments={"expression": "2+2"}),), in_rounds=True, repeat=False
            ),
        ),
        (
            '[[sim:tool=sum {"rows": [[1], [2]]}]] [[sim:tool_loop=now]]',
            Action(
                tool_calls=(ToolCall(name="sum", arguments={"rows": [[1], [2]]}), ToolCall(name="now", arguments={})),
                in_rounds=True,
                repeat=True,
            ),
        ),
    ],
)
def test_a_message_says_how_it_is_answered(message: str, action: Action) -> None:
    parsed = parse_directives(message)

    assert parsed == (action, None)


def test_a_message_names_the_key_its_tokens_count_for() -> None:
    assert parse_directives("[[sim:key=user-7]] hello") == (Action(), "user-7")


def test_a_message_without_directives_has_no_action() -> None:
    assert parse_directives("hello [[there]]") is None


@pytest.mark.parametrize(
    "message",
    [
        "[[sim:tokens=many]]",
        "[[sim:tokens=0]]",
        "[[sim:fault=418]]",
        "[[sim:unknown]]",
        "[[sim:reply=never closed",
        "[[sim:tool=calculate {broken}]]",
        '[[sim:tool=calculate {"a": 1}',
    ],
)
def test_a_directive_that_makes_no_sense_is_refused(message: str) -> None:
    with pytest.raises(DirectiveError):
        parse_directives(message)


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        ("[[sim:tokens=3]] I like tea.", "I like tea."),
        ('I like [[sim:tool=sum {"rows": [[1]]}]]tea.', "I like tea."),
        ("I like [[sim:broken", "I like [[sim:broken"),
        ("I like [[tea]].", "I like [[tea]]."),
    ],
)
def test_directives_are_taken_out_of_a_message(message: str, plain: str) -> None:
    assert strip_directives(message) == plain
