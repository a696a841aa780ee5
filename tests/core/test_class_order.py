"""Classes by position, whatever a label or an output calls them."""

from __future__ import annotations

import numpy as np

from gateway.core.class_order import positions_of_numbers, positions_of_texts

NAMES, NUMBERS = ("ape", "bee", "cat"), (3, 5, 8)


def test_a_number_is_its_value_or_its_place() -> None:
    """The class of that value where classes are numbers, and else the place in the list."""
    numbers = np.array([0.0, 2.0, 3.0, 5.0, 0.5, np.nan])
    named = positions_of_numbers(numbers, NAMES)
    counted = positions_of_numbers(numbers, NUMBERS)
    assert named[:2].tolist() == [0, 2] and np.isnan(named[2:]).all()
    assert counted[2:4].tolist() == [0, 1] and np.isnan(counted[[0, 1, 4, 5]]).all()


def test_a_text_is_the_class_of_that_name() -> None:
    """Also where the classes are numbers; what is none is NaN and never the first class."""
    named = positions_of_texts(["cat", "ape", "dog", None], NAMES)
    assert named[:2].tolist() == [2, 0] and np.isnan(named[2:]).all()
    assert positions_of_texts(["8", "3"], NUMBERS).tolist() == [2, 0]
