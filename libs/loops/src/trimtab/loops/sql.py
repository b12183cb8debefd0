"""SQL text → syntax tree, with the position of every error.

sqlglot parses it in a dialect of our own in which every function is anonymous: what a name means is decided by our
allow-list alone, and nothing that sqlglot knows of other engines (table functions, commands, intervals) gets a meaning.
"""

import re
from collections.abc import Callable
from typing import ClassVar

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError
from sqlglot.parser import Parser as SqlParser
from sqlglot.tokenizer_core import TokenType

from trimtab.loops.errors import ExpressionError

LONGEST = 4_000
DEEPEST = 100
_TOO_DEEP = "the expression is nested too deeply"


class _Expressions(Dialect):
    class Parser(SqlParser):
        FUNCTIONS: ClassVar[dict[str, Callable[..., exp.Expr]]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., exp.Expr | None]]] = {
            name: parse for name, parse in SqlParser.FUNCTION_PARSERS.items() if name in {"CAST", "TRY_CAST"}
        }
        NO_PAREN_FUNCTIONS: ClassVar[dict[TokenType, type[exp.Expr]]] = {}
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., exp.Expr | None]]] = {
            name: parse for name, parse in SqlParser.NO_PAREN_FUNCTION_PARSERS.items() if name == "CASE"
        }


def parse(sql: str) -> exp.Expr:
    """The tree of one expression.

    Raises ExpressionError where the text is no SQL, is more than one expression, or is too long or nested too deeply.
    """
    if len(sql) > LONGEST:
        raise ExpressionError(LONGEST, f"the expression is longer than {LONGEST} characters")
    try:
        trees = Dialect.get_or_raise(_Expressions).parse(sql)
    except ParseError as error:
        raise _from_parser(sql, error) from error
    except TokenError as error:
        raise ExpressionError(_open_quote(sql), "a quote is not closed", "'text' in single quotes") from error
    except RecursionError as error:
        raise ExpressionError(0, _TOO_DEEP) from error
    tree = trees[0] if trees else None
    if tree is None:
        raise ExpressionError(0, "the expression is empty")
    if len(trees) > 1 or isinstance(tree, exp.Block):
        raise ExpressionError(sql.find(";"), "more than one expression", "one expression without `;`")
    if isinstance(tree, exp.Alias):
        raise ExpressionError(position(tree.args["alias"]), f"unexpected `{tree.alias}`", "an operator, or nothing")
    _check_depth(tree)
    return tree


def position(node: exp.Expr) -> int:
    """Where a node starts in its text: the offset of its first token that remembers one."""
    starts = [found.meta["start"] for found in node.walk() if "start" in found.meta]
    return min(starts, default=0)


def _check_depth(tree: exp.Expr) -> None:
    level, depth = [tree], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ExpressionError(position(level[0]), _TOO_DEEP)
        level = [child for node in level for child in node.iter_expressions()]


def _from_parser(sql: str, error: ParseError) -> ExpressionError:
    found = error.errors[0] if error.errors else {}
    highlight = str(found.get("highlight") or "")
    line, column = int(found.get("line") or 1), int(found.get("col") or 1)
    start = sum(len(text) + 1 for text in sql.split("\n")[: line - 1]) + column - max(len(highlight), 1)
    what = f"no SQL expression: trouble at `{highlight}`" if highlight else "no SQL expression"
    if not sql.strip():
        what = "the expression is empty"
    return ExpressionError(max(0, min(start, len(sql))), what, _advice(str(found.get("description") or ""), highlight))


def _advice(description: str, highlight: str) -> str:
    if "Expecting )" in description:
        return (
            "close the parenthesis" if highlight.casefold() != "from" else "hour(ts) instead of EXTRACT(hour FROM ts)"
        )
    if "Required keyword" in description:
        return "an operand on both sides of the operator"
    return ""


def _open_quote(sql: str) -> int:
    quotes = [found.start() for found in re.finditer(r"['\"]", sql)]
    return quotes[-1] if quotes else 0
