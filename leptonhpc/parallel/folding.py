"""Folding numbered values: in one fixed tree, whatever the order in which they come.

Sums of floating point numbers depend on their order. Here the order depends on the number of values
only, so that a result is the same, bit for bit, on any number of workers. The error of a sum grows
with the logarithm of their number (N. J. Higham, Accuracy and Stability of Numerical Algorithms,
2nd ed., section 4.2: pairwise summation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Combine = Callable[[Any, Any], Any]


class Tree:
    """Values of neighbours are combined when both are there, then pairs, then fours.

    Parameters
    ----------
    combine : callable
        Associative; gets the earlier and the later value. It may change the earlier.

    Notes
    -----
    With w values still to come out of order, at most w log2(n) combined ones wait.
    """

    def __init__(self, combine: Combine) -> None:
        self._combine = combine
        self._nodes: dict[tuple[int, int], Any] = {}
        """By level and place: 2^level values from place * 2^level on."""

    def add(self, number: int, value: Any) -> None:
        """Take a value.

        Parameters
        ----------
        number : int
            Its place, from 0, each once.
        value : object
            It.
        """
        level = 0
        while (level, number ^ 1) in self._nodes:
            other = self._nodes.pop((level, number ^ 1))
            value = self._combine(other, value) if number & 1 else self._combine(value, other)
            level, number = level + 1, number >> 1
        self._nodes[level, number] = value

    def result(self) -> Any:
        """Combine what is left, from the end; KeyError without values.

        Returns
        -------
        object
            The combination of all values in the order of their numbers.
        """
        left = sorted(self._nodes.items(), key=lambda node: node[0][1] << node[0][0])
        value = left.pop()[1]
        while left:
            value = self._combine(left.pop()[1], value)
        return value

    def __bool__(self) -> bool:
        return bool(self._nodes)
