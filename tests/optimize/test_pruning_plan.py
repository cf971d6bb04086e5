"""A pruning plan is plain data: what it does not fit, it does not change silently."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.pruning_plan import Group, Member, checked_changes, entries, replay


def chain(width: int = 6) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))


GROUP = Group(
    "units",
    "0",
    6,
    (Member("0.weight", 0), Member("0.bias", 0), Member("2.weight", 1, reads=True)),
    (("0.out_features", 1), ("2.in_features", 1)),
)


@given(
    kept=st.sets(st.integers(0, 4), min_size=1).map(sorted),
    width=st.integers(1, 3),
    blocks=st.integers(1, 4),
)
def test_entries_are_those_of_a_reshaped_axis(kept: list[int], width: int, blocks: int) -> None:
    """The places of units in an axis are those that remain of it, cut into blocks, units and widths."""
    axis = torch.arange(blocks * 5 * width).view(blocks, 5, width)
    assert entries(kept, 5, Member("w", 0, width, blocks)) == axis[:, kept].flatten().tolist()


def test_a_plan_survives_json_and_composes() -> None:
    """Written and read as JSON, two changes after each other leave the units that both keep."""
    module, weight = chain(), None
    weight = module[0].weight.detach().clone()
    second = Group("units", "0", 4, GROUP.members, GROUP.counts)
    replay(module, json.loads(json.dumps([GROUP.keeping([0, 2, 3, 5]), second.keeping([1, 3])])))
    assert torch.equal(module[0].weight, weight[[2, 5]])
    assert (module[0].out_features, module[2].in_features, tuple(module[2].weight.shape)) == (2, 2, (2, 2))
    assert module[0].weight.requires_grad


def test_a_plan_that_does_not_fit_is_refused() -> None:
    """A module of another width, without such a tensor or of other layers, and an unknown change, are build errors."""
    with pytest.raises(
        BuildError, match=r"pruning of 0 does not fit the model: 0.weight has 7 entries where 6 are meant"
    ):
        replay(chain(7), [GROUP.keeping([0])])
    with pytest.raises(BuildError, match=r"does not fit the model: it has no 0.weight. The model's code has changed"):
        replay(torch.nn.Sequential(torch.nn.ReLU()), [GROUP.keeping([0])])
    with pytest.raises(BuildError, match=r"0.bias has 0 entries where 6 are meant"):
        replay(chain(), [{**GROUP.keeping([0]), "members": [["0.bias", 1, 1, 1]]}])
    with pytest.raises(BuildError, match=r"does not fit the model: it has no 7. The model's code has changed"):
        replay(chain(), [{**GROUP.keeping([0]), "counts": {"7.in_features": 1}}])
    layers = {"kind": "layers-kept", "group": "encoder", "target": "layers", "size": 2, "kept": [0]}
    with pytest.raises(BuildError, match="it has no encoder"):
        replay(chain(), [layers])
    with pytest.raises(BuildError, match="0 has 3 layers where 2 are meant"):
        replay(torch.nn.Sequential(chain()), [{**layers, "group": "0"}])
    with pytest.raises(BuildError, match="unknown structural change 'folded' of a Sequential"):
        replay(chain(), [{"kind": "folded"}])


def test_changes_read_from_a_file_are_held_to_their_form() -> None:
    """A change that is whole is taken as it is, one of a later release too; what cannot be meant is a value error."""
    good = GROUP.keeping([0, 2])
    later = {"kind": "folded", "by": 3}
    assert checked_changes(json.loads(json.dumps([good, later]))) == (json.loads(json.dumps(good)), later)
    bad = (
        {"kept": []},
        {"kept": [2, 0]},
        {"kept": [0, 6]},
        {"kept": [-1, 0]},
        {"size": 0},
        {"target": "wings"},
        {"members": [["0.weight", 0]]},
        {"counts": {"0.out_features": 0}},
    )
    for damage in bad:
        with pytest.raises(ValueError, match=next(iter(damage))):
            checked_changes([{**good, **damage}])
    for damage in ({}, "changes", [1], [{**good, "kind": "layers-kept", "kept": None}]):
        with pytest.raises(ValueError, match="validation error"):
            checked_changes(damage)
