"""Formulas over named numbers, worked out in a whitelisted evaluator: model text is never executed.

What a formula may hold: numbers, the given names, `+ - * / **`, parentheses, and the functions
`min`, `max`, `sum`, `mean` (or `average`), `abs` and `round`. Anything else is refused before it is
evaluated: the syntax tree may hold no other kind of node (Law 4). All numbers are `Decimal`.
"""

from __future__ import annotations

import ast
import decimal
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import simpleeval  # type: ignore[import-untyped]

MAX_CHARS = 600
"""Longer formulas are refused unread."""
MAX_NODES = 300
MAX_DEPTH = 40
MAX_EXPONENT = 100
"""Largest power, either sign: compound growth needs roots and years, not more."""
MAX_DIGITS = 30
"""No number, in between or at the end, reaches 10 to this power."""
MAX_PLACES = 12
"""Most decimal places that `round` may be asked for, either sign."""
PRECISION = 50
"""Significant digits of every step."""

_PLAIN = re.compile(r"[A-Za-z0-9_\s.,+\-*/()\[\]]*", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|\.\d+(?:[eE][+-]?\d{1,3})?", re.ASCII)
_NODES = (
    ast.BinOp,
    ast.UnaryOp,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.List,
    ast.Tuple,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Pow,
    ast.UAdd,
    ast.USub,
)
_REFUSALS = (
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    simpleeval.InvalidExpression,
)
"""All that parsing and evaluating can raise on the trees that are let through."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArithmeticRefused:
    """A formula that has no result, and why. A value, not an exception: models write formulas."""

    reason: str


def evaluate(formula: str, values: Mapping[str, Decimal]) -> Decimal | ArithmeticRefused:
    """The value of `formula`, with `values` in place of its names; the reason when it has none.

    Never raises for what the formula says. Takes well under a millisecond per node."""
    tree = parse_formula(formula)
    if isinstance(tree, ArithmeticRefused):
        return tree
    unknown = sorted(_names(tree) - set(values))
    if unknown:
        known = ", ".join(sorted(values)) or "none"
        return ArithmeticRefused(reason=f"`{unknown[0]}` has no value; there are: {known}")
    with decimal.localcontext(_context()):
        try:
            result = _evaluator(formula, values).eval(formula, previously_parsed=tree)
            return _bounded(result)
        except _REFUSALS as error:
            return ArithmeticRefused(reason=_said(error))


def check_formula(formula: str) -> frozenset[str] | ArithmeticRefused:
    """The names that a formula uses, or why it would never be evaluated."""
    tree = parse_formula(formula)
    return tree if isinstance(tree, ArithmeticRefused) else _names(tree)


def parse_formula(formula: str) -> ast.expr | ArithmeticRefused:
    """The syntax tree, of allowed nodes only. Nothing is evaluated here."""
    if len(formula) > MAX_CHARS:
        return ArithmeticRefused(reason=f"longer than {MAX_CHARS} characters")
    if not _PLAIN.fullmatch(formula):
        return ArithmeticRefused(reason="holds characters that no formula needs")
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except _REFUSALS as error:
        return ArithmeticRefused(reason=f"is not a formula: {_said(error)}")
    return _refusal(tree, formula.strip()) or tree


def _refusal(tree: ast.expr, formula: str) -> ArithmeticRefused | None:
    level: list[ast.AST] = [tree]
    n_nodes = depth = 0
    while level:
        n_nodes, depth = n_nodes + len(level), depth + 1
        if n_nodes > MAX_NODES or depth > MAX_DEPTH:
            return ArithmeticRefused(reason=f"over {MAX_NODES} parts, or over {MAX_DEPTH} deep")
        wrong = next((why for node in level if (why := _not_allowed(node, formula))), None)
        if wrong:
            return ArithmeticRefused(reason=wrong)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return None


def _not_allowed(node: ast.AST, formula: str) -> str | None:
    if not isinstance(node, _NODES):
        return f"{type(node).__name__} is not allowed"
    if isinstance(node, ast.Constant) and not _NUMBER.fullmatch(_written(node, formula)):
        return f"{_written(node, formula)[:40]!r} is not a plain number"
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        if not known or node.keywords:
            return f"only {', '.join(sorted(FUNCTIONS))} can be called"
    return None


def _written(node: ast.Constant, formula: str) -> str:
    """The digits as they stand in the formula: a float would already have changed them."""
    return ast.get_source_segment(formula, node) or ""


def _names(tree: ast.expr) -> frozenset[str]:
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return frozenset(node.id for node in names if id(node) not in called)


def _context() -> decimal.Context:
    return decimal.Context(
        prec=PRECISION,
        Emin=-999,
        Emax=MAX_DIGITS - 1,
        traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
    )


def _evaluator(formula: str, values: Mapping[str, Decimal]) -> Any:
    evaluator = simpleeval.SimpleEval(
        operators=OPERATORS, functions=FUNCTIONS, names=dict(values), allowed_attrs={}
    )
    handlers = evaluator.nodes
    evaluator.nodes = {
        **{kind: handlers[kind] for kind in (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name)},
        ast.Constant: lambda node: _bounded(Decimal(_written(node, formula.strip()))),
        ast.List: lambda node: [_bounded(evaluator._eval(item)) for item in node.elts],
        ast.Tuple: lambda node: [_bounded(evaluator._eval(item)) for item in node.elts],
    }
    return evaluator


def _bounded(value: object) -> Decimal:
    """The value as a step's result. Raises ValueError for what is no number of a sane size."""
    if not isinstance(value, Decimal):
        raise ValueError("a list or a function stands where a number must be")
    if not value.is_finite() or value.copy_abs() >= Decimal(10) ** (MAX_DIGITS - 1):
        raise ValueError(f"a number of more than {MAX_DIGITS - 1} digits comes up")
    return value


def _said(error: BaseException) -> str:
    """What an error means for the person who reads the formula."""
    if isinstance(error, decimal.DivisionByZero) or "DivisionUndefined" in str(error):
        return "division by zero"
    if isinstance(error, decimal.Overflow):
        return f"a number of more than {MAX_DIGITS} digits comes up"
    if isinstance(error, decimal.InvalidOperation):
        return "an operation that has no result in real numbers"
    if isinstance(error, SyntaxError):
        return error.msg
    return str(error) or type(error).__name__


def _operator(work: Callable[..., Decimal]) -> Callable[..., Decimal]:
    """An operator that takes and gives bounded numbers only."""
    return lambda *operands: _bounded(work(*map(_bounded, operands)))


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    if exponent.copy_abs() > MAX_EXPONENT:
        raise ValueError(f"an exponent over {MAX_EXPONENT}")
    return base**exponent


def _function(work: Callable[[list[Decimal]], Decimal]) -> Callable[..., Decimal]:
    """A function of numbers, given one by one or as a single list."""

    def called(*given: Any) -> Decimal:
        items = given[0] if len(given) == 1 and isinstance(given[0], list) else given
        if not items:
            raise ValueError("a function without numbers")
        return _bounded(work([_bounded(item) for item in items]))

    return called


def _total(items: list[Decimal]) -> Decimal:
    return sum(items, start=Decimal(0))


def _mean(items: list[Decimal]) -> Decimal:
    return _total(items) / len(items)


def _one(items: list[Decimal]) -> Decimal:
    if len(items) != 1:
        raise ValueError(f"abs takes one number, not {len(items)}")
    return abs(items[0])


def _rounded(items: list[Decimal]) -> Decimal:
    places = items[1] if len(items) > 1 else Decimal(0)
    if len(items) > 2 or places != places.to_integral_value() or abs(places) > MAX_PLACES:
        raise ValueError(f"round takes a number and whole places up to {MAX_PLACES}")
    return round_half_up(items[0], int(places))


def round_half_up(value: Decimal, places: int) -> Decimal:
    """Half away from zero, as reports do it; Python's own `round` is half to even."""
    with decimal.localcontext(_context()):
        step = Decimal(1).scaleb(-places)
        return (value / step).to_integral_value(decimal.ROUND_HALF_UP) * step


OPERATORS: Mapping[type[ast.AST], Callable[..., Decimal]] = {
    ast.Add: _operator(lambda a, b: a + b),
    ast.Sub: _operator(lambda a, b: a - b),
    ast.Mult: _operator(lambda a, b: a * b),
    ast.Div: _operator(lambda a, b: a / b),
    ast.Pow: _operator(_power),
    ast.USub: _operator(lambda a: -a),
    ast.UAdd: _operator(lambda a: +a),
}
FUNCTIONS: Mapping[str, Callable[..., Decimal]] = {
    "min": _function(min),
    "max": _function(max),
    "sum": _function(_total),
    "mean": _function(_mean),
    "average": _function(_mean),
    "abs": _function(_one),
    "round": _function(_rounded),
}
