"""Evaluates arithmetic without executing code: an AST of numbers and operators, limited in size."""

import ast
import math
import operator
import warnings
from collections.abc import Callable
from typing import Final

from langchain_core.tools import ToolException, tool

from mesh_agent.tools.tool import Tool, of_function

_MAX_CHARS: Final = 500
# Larger results are useless to the model and would only consume CPU.
_MAX_DIGITS: Final = 1_000

Number = int | float

_BINARY: Final[dict[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: Final[dict[type[ast.unaryop], Callable[[Number], Number]]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: Final[dict[str, Callable[[float], Number]]] = {
    "sqrt": math.sqrt,
    "round": round,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "log": math.log,
    "exp": math.exp,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
}
_CONSTANTS: Final = {"pi": math.pi, "e": math.e}


def calculate_tool() -> Tool:
    @tool
    async def calculate(expression: str) -> str:
        """The value of an arithmetic expression, e.g. `2 * (3 + 4) ** 2` or `sqrt(2)`."""
        return str(evaluate(expression))

    return of_function(calculate)


def evaluate(expression: str) -> Number:
    """Raises ToolException, with a message that the model can act on, for anything but bounded arithmetic."""
    if len(expression) > _MAX_CHARS:
        raise ToolException(f"The expression is longer than {_MAX_CHARS} characters.")
    try:
        value = _value(_parsed(expression))
        _check_size(value)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ToolException("This is not an arithmetic expression.") from error
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ToolException(f"This cannot be calculated: {error}.") from error
    return value


def _parsed(expression: str) -> ast.expr:
    with warnings.catch_warnings():
        # The parser's warnings, e.g. for `1if`, would print the user's text to standard error.
        warnings.simplefilter("ignore")
        return ast.parse(expression.strip(), mode="eval").body


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _applied(type(op), _value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](_value(argument))
    raise ToolException("Only numbers, + - * / // % **, parentheses and functions such as sqrt are understood.")


def _applied(op: type[ast.operator], left: Number, right: Number) -> Number:
    if op is ast.Pow:
        _check_power(left, right)
    value = _BINARY[op](left, right)
    if isinstance(value, complex):
        raise ToolException("The result is not a real number.")
    _check_size(value)
    return value


def _check_power(base: Number, exponent: Number) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        digits = abs(exponent) * math.log10(abs(base))
        if digits > _MAX_DIGITS:
            raise ToolException(f"The result has more than {_MAX_DIGITS} digits.")


def _check_size(value: Number) -> None:
    if isinstance(value, int) and value.bit_length() > _MAX_DIGITS * math.log2(10):
        raise ToolException(f"The result has more than {_MAX_DIGITS} digits.")
