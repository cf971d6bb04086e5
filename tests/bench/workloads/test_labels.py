"""Labels to class numbers: the model's order first, and both sides listed where they do not fit."""

import numpy as np
import pytest
from weighbridge.bench.workloads.labels import class_names_of, encode
from weighbridge.optimize.errors import InputError


def test_the_models_own_order_goes_first() -> None:
    """Names that the model knows keep its order, whatever the data's."""
    assert class_names_of(["b", "a"], ["z", "b", "a"], None) == ("z", "b", "a")


def test_names_that_say_nothing_are_not_names() -> None:
    """LABEL_0, LABEL_1 say nothing: labels are sorted, numbers by their value."""
    assert class_names_of(["yes", "no"], ["LABEL_0", "LABEL_1"], None) == ("no", "yes")
    assert class_names_of(["10", "9", "2"], None, None) == ("2", "9", "10")


def test_numbers_below_the_number_of_classes_are_taken_as_they_are() -> None:
    """Labels 0 to n-1 are class numbers even where some are absent from the data, and beside the model's names."""
    assert class_names_of(["0", "2"], ["LABEL_0", "LABEL_1", "LABEL_2"], None) == ("0", "1", "2")
    assert class_names_of(["0", "1"], ["no", "yes"], None) == ("no", "yes")
    np.testing.assert_array_equal(encode(["1", "0"], ["no", "yes"]), [1, 0])


def test_labels_are_encoded_by_their_place() -> None:
    """Each label becomes its place among the names."""
    np.testing.assert_array_equal(encode(["b", "a", "b"], ["a", "b"]), [1, 0, 1])


def test_a_label_that_the_model_does_not_know_lists_both_sides() -> None:
    """The error names the unknown label and those that the model knows, long lists cut."""
    with pytest.raises(InputError, match=r"does not know: maybe; the model knows no, yes"):
        class_names_of(["yes", "maybe"], ["no", "yes"], None)
    with pytest.raises(InputError, match=r"\.\.\. \(20 in all\)"):
        encode(["x"], [f"name-{number}" for number in range(20)])


def test_more_labels_than_scores_are_refused() -> None:
    """Three names cannot be told apart by two scores."""
    with pytest.raises(InputError, match="the data has 3 labels .* the model gives 2 scores"):
        class_names_of(["a", "b", "c"], None, 2)
