"""Chains of operands and operators to trees, by precedence, without recursion (Dijkstra's shunting yard).

``1 + 2 * 3 ^ 4 ^ 5`` of any length takes a loop: a chain is not depth. What an operator and its operands
combine to is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from filoray.nodes.promql.operators import PRECEDENCE, RIGHT_ASSOCIATIVE

Operand = TypeVar("Operand")
Detail = TypeVar("Detail")


class OperatorChain(Generic[Operand, Detail]):
    """``combine(operator, detail, left, right)`` is called as soon as both sides are known, innermost first.

    ``detail`` is what the caller gave with the operator.
    """

    def __init__(self, first: Operand, combine: Callable[[str, Detail, Operand, Operand], Operand]) -> None:
        self._operands = [first]
        self._operators: list[tuple[str, Detail]] = []
        self._combine = combine

    def add_operator(self, operator: str, detail: Detail) -> None:
        """One that follows the last operand: what binds at least as tightly to its left is combined now."""
        level = PRECEDENCE[operator] + (operator in RIGHT_ASSOCIATIVE)
        while self._operators and PRECEDENCE[self._operators[-1][0]] >= level:
            self._combine_last()
        self._operators.append((operator, detail))

    def add_operand(self, operand: Operand) -> None:
        self._operands.append(operand)

    def tree(self) -> Operand:
        """All of it combined; there must be an operand behind each operator."""
        while self._operators:
            self._combine_last()
        (tree,) = self._operands
        return tree

    def _combine_last(self) -> None:
        operator, detail = self._operators.pop()
        right = self._operands.pop()
        self._operands[-1] = self._combine(operator, detail, self._operands[-1], right)
