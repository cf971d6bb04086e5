"""Recipes are plain data with a stable id, and wrong ones are answered with what would be right."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.optimize.errors import ConfigError
from weighbridge.optimize.recipe import PRECISIONS, Recipe, StepConfig, step_from_dict
from weighbridge.optimize.techniques import technique, technique_names

steps = st.one_of(
    st.builds(
        lambda share, scope: {"use": "magnitude-pruning", "sparsity": share, "scope": scope},
        st.floats(0.01, 0.99),
        st.sampled_from(["layer", "global"]),
    ),
    st.builds(lambda flag: {"use": "dynamic-int8", "per_channel": flag}, st.booleans()),
    st.builds(lambda count: {"use": "static-int8", "samples": count}, st.integers(1, 10_000)),
    st.just({"use": "half-precision", "dtype": "fp16"}),
)
recipes = st.builds(
    lambda backend, precision, chosen: {"backend": backend, "precision": precision, "steps": chosen},
    st.sampled_from(["torch", "onnxruntime", "tensorrt", "openvino", "fake"]),
    st.sampled_from(PRECISIONS),
    st.lists(steps, max_size=3),
)


@given(recipes)
def test_a_recipe_survives_its_own_data(data: dict[str, Any]) -> None:
    """Reading what a recipe writes gives an equal recipe with the same id."""
    recipe = Recipe.from_dict(data)
    again = Recipe.from_dict(recipe.to_dict())
    assert again == recipe
    assert again.id == recipe.id
    assert len(recipe.id) == 12


@given(recipes, recipes)
def test_ids_are_equal_exactly_when_recipes_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two recipes have the same id if and only if they say the same."""
    first, second = Recipe.from_dict(one), Recipe.from_dict(other)
    assert (first.id == second.id) == (first.to_dict() == second.to_dict())


def test_the_order_of_steps_matters() -> None:
    """The same steps in another order are another recipe."""
    prune, quantize = step_from_dict({"use": "magnitude-pruning"}), step_from_dict({"use": "dynamic-int8"})
    one, other = (Recipe("onnxruntime", "int8", order) for order in ((prune, quantize), (quantize, prune)))
    assert one.id != other.id


def test_the_default_name_is_backend_and_precision() -> None:
    """A variant without a name of its own is named by what it is."""
    assert Recipe("onnxruntime", "int8").name == "onnxruntime-int8"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"backend": "onnxruntme"}, r"unknown backend 'onnxruntme'; did you mean 'onnxruntime'\?"),
        ({"backend": "torch", "precision": "int7"}, r"unknown precision 'int7'; did you mean 'int8'\?"),
        ({"backend": "torch", "steps": [{"ratio": 0.5}]}, r'a step needs use = "NAME"; given'),
        ({"backend": "torch", "steps": [{"use": "magnitude-prunning"}]}, "did you mean 'magnitude-pruning'"),
        ({"backend": "torch", "steps": [{"use": "lottery-ticket"}]}, "unknown technique 'lottery-ticket'"),
        (
            {"backend": "torch", "steps": [{"use": "magnitude-pruning", "sparsty": 0.5}]},
            r"step 'magnitude-pruning': sparsty: unknown key 'sparsty'; did you mean 'sparsity'\?",
        ),
        (
            {"backend": "torch", "steps": [{"use": "magnitude-pruning", "sparsity": 1}]},
            "sparsity: .*less than 1; given 1",
        ),
        ({"backend": "torch", "steps": [{"use": "magnitude-pruning", "sparsity": 0}]}, "greater than 0; given 0"),
        ({"backend": "torch", "steps": [{"use": "half-precision", "dtype": "fp8"}]}, "'bf16' or 'fp16'; given 'fp8'"),
        ({"backend": "torch", "steps": [{"use": "static-int8", "target": "vax"}]}, "'x86-vnni'.*given 'vax'"),
        ({"backend": "torch", "steps": [{"use": "static-int8", "calibration": "kl"}]}, "'entropy'.*given 'kl'"),
        ({"backend": "torch", "steps": [{"use": "static-int8", "samples": 0}]}, "samples: .*given 0"),
    ],
)
def test_a_wrong_recipe_is_answered_with_what_is_allowed(data: dict[str, Any], words: str) -> None:
    """A typo or a value outside its range names the place, what was given and what is allowed."""
    with pytest.raises(ConfigError, match=words):
        Recipe.from_dict(data)


@pytest.mark.parametrize("name", technique_names())
def test_every_technique_is_named_as_its_config_says(name: str) -> None:
    """The registry's name, the technique's and its config's `use` are one, and the defaults are valid."""
    found = technique(name)
    config = found.config()
    assert isinstance(config, StepConfig)
    assert found.name == config.use == name
    assert step_from_dict(config.to_dict()) == config


@pytest.mark.parametrize("name", technique_names())
def test_configs_are_frozen(name: str) -> None:
    """A step's config cannot be changed after it was validated."""
    config = technique(name).config()
    field = next(iter(type(config).model_fields), "anything")
    with pytest.raises(ValueError, match="frozen|has no field"):
        setattr(config, field, None)
