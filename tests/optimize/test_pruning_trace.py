"""The traced graph: units are found where every reader is known, and left where anything else looks at them."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from weighbridge.optimize.pruning_groups import find_groups, layer_list
from weighbridge.optimize.pruning_plan import replay


class Functional(nn.Module):
    """A convolutional net as people write it: functions, and a view or flatten before the linear layer."""

    def __init__(self, flatten: str = "view") -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.two, self.head = nn.Conv2d(4, 6, 3), nn.Linear(6 * 4, 3)
        self.pooled_head = nn.Linear(6, 3)
        self.flatten = flatten

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(functional.relu(self.norm(self.one(x))), 2)
        x = torch.tanh(self.two(x))
        if self.flatten == "mean":
            return self.pooled_head(x.mean((2, 3)))
        if self.flatten == "fixed":
            return self.head(x.view(-1, 24))
        if self.flatten == "shape":
            return self.head(x.reshape(x.shape[0], -1))
        if self.flatten == "flatten":
            return self.head(torch.flatten(x, start_dim=1))
        return self.head(x.view(x.size(0), -1))


class Residual(nn.Module):
    """A sum: both sides of it have the same units, or one is the input itself."""

    def __init__(self, *, embedded: bool = True) -> None:
        super().__init__()
        self.into, self.inner, self.out, self.head = (nn.Linear(4, 4) for _ in range(4))
        self.embedded = embedded

    def forward(self, x: Any) -> Any:
        x = self.into(x) if self.embedded else x
        return self.head(x + self.out(self.inner(x).relu()))


class Block(nn.Module):
    """A residual block as of ResNet: two convolutions with batch norm, and a third on the way around where sizes change."""

    def __init__(self, inputs: int, outputs: int, add: str) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm_one, self.norm_two = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        around = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))
        self.around = nn.Identity() if inputs == outputs else around
        self.add = add

    def forward(self, x: Any) -> Any:
        y = self.norm_two(self.two(functional.relu(self.norm_one(self.one(x)))))
        if self.add == "in place":
            y += self.around(x)
        elif self.add == "method":
            y = y.add(self.around(x))
        else:
            y = torch.add(self.around(x), y)
        return functional.relu(y)


class Resnet(nn.Module):
    """A stem, a block that keeps its channels, one that changes them, and a head on their means."""

    def __init__(self, add: str = "function") -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.same, self.wider, self.head = Block(4, 4, add), Block(4, 6, add), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.head(functional.adaptive_avg_pool2d(self.wider(self.same(self.stem(x))), 1).flatten(1))


class Twice(nn.Module):
    """One layer called twice: its inputs and outputs are the same units."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(self.layer(x)))


class Recurrent(nn.Module):
    """A recurrent layer, read as asked."""

    def __init__(self, kind: Any, read: str, inputs: int = 3, **options: Any) -> None:
        super().__init__()
        self.cells = kind(inputs, 8, batch_first=True, **options)
        self.head = nn.Linear(16 if options.get("bidirectional") else 8, 2)
        self.read = read

    def forward(self, x: Any) -> Any:
        states, hidden = self.cells(x)
        if self.read == "all":
            return self.head(states[:, -1, :])
        if self.read == "hidden":
            return self.head(hidden[-1])
        if self.read == "cell":
            return self.head(hidden[1][-1])
        return self.head(hidden[0][-1])


class Branching(nn.Module):
    """A forward that looks at the numbers themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x)) if x.sum() > 0 else self.head(x)


def found(module: nn.Module) -> dict[str, tuple[str, int]]:
    return {group.name: (group.target, group.size) for group in find_groups(module.eval())[0]}


@pytest.mark.parametrize("flatten", ["view", "shape", "flatten", "mean"])
def test_channels_are_followed_through_functions(flatten: str) -> None:
    """Activations, pooling, batch norm and each way to flatten lead from a convolution to its reader."""
    module = Functional(flatten)
    assert found(module) == {"one": ("channels", 4), "two": ("channels", 6)}
    first, second = find_groups(module)[0]
    assert [member.tensor for member in first.members if member.tensor.startswith("norm")] == [
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
    ]
    assert [member.width for member in second.members if member.reads] == [1 if flatten == "mean" else 4]


def test_a_width_written_into_the_code_is_left() -> None:
    """A view of a fixed width would not fit fewer channels: only the other convolution is found."""
    assert found(Functional("fixed")) == {"one": ("channels", 4)}


def test_both_sides_of_a_sum_lose_the_same_units() -> None:
    """The layers whose outputs are added make one group; where the input itself is added, only the inner layer is narrowed."""
    assert found(Residual()) == {"into": ("units", 4), "inner": ("units", 4)}
    into, _ = find_groups(Residual())[0]
    assert {member.tensor for member in into.members if not member.reads} == {
        *(f"{layer}.{kind}" for layer in ("into", "out") for kind in ("weight", "bias"))
    }
    assert {member.tensor for member in into.members if member.reads} == {"inner.weight", "head.weight"}
    assert found(Residual(embedded=False)) == {"inner": ("units", 4)}


@pytest.mark.parametrize("add", ["function", "method", "in place"])
def test_channels_of_a_residual_network_are_found(add: str) -> None:
    """Each stage's stem, second convolutions and way around make one group, each block's inner channels another."""
    assert found(Resnet(add)) == {
        "stem.0": ("channels", 4),
        "same.one": ("channels", 4),
        "wider.one": ("channels", 6),
        "wider.two": ("channels", 6),
    }


class Mixed(nn.Module):
    """A sum in which one side's units are mixed on the way, or lie elsewhere."""

    def __init__(self, mix: Any) -> None:
        super().__init__()
        self.one, self.two, self.head, self.mix = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 4, 1), nn.Linear(4, 2), mix

    def forward(self, x: Any) -> Any:
        return self.head((self.one(x) + self.mix(self.two(x))).mean((2, 3)))


@pytest.mark.parametrize("mix", [nn.Softmax(dim=1), nn.GroupNorm(2, 4), nn.LSTM(4, 4)], ids=["softmax", "norm", "lstm"])
def test_a_sum_with_a_side_that_is_not_sure_is_left(mix: nn.Module) -> None:
    """Where one side of a sum is mixed, or made by something else than a layer, nothing on the other side is narrowed."""
    assert found(Mixed(nn.ReLU())) == {"one": ("channels", 4)}
    assert found(Mixed(mix)) == {}


@pytest.mark.parametrize(
    "module",
    [
        Twice(),
        nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 4), nn.Softmax(dim=-1), nn.Linear(4, 2)),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2)),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
    ],
    ids=["called twice", "norm over units", "softmax", "grouped reader", "linear over width", "output"],
)
def test_what_is_not_sure_is_left(module: nn.Module) -> None:
    """A layer called twice, a norm or softmax over units, a grouped convolution, the output: nothing is found."""
    assert found(module) == {}


def test_tied_weights_are_left() -> None:
    """A weight that lies in two places cannot be narrowed in one."""
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert set(found(module)) == {"0", "2"}
    module[2].weight = module[0].weight
    assert found(module) == {}


@pytest.mark.parametrize(
    ("kind", "read"),
    [(nn.LSTM, "all"), (nn.LSTM, "nested"), (nn.GRU, "all"), (nn.GRU, "hidden"), (nn.RNN, "hidden")],
)
def test_recurrent_units_are_found(kind: Any, read: str) -> None:
    """LSTM, GRU and RNN, read at the last place or as last hidden state, have a group of units a layer."""
    assert found(Recurrent(kind, read, num_layers=2)) == {"cells.l0": ("units", 8), "cells.l1": ("units", 8)}


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (Functional(), (2, 1, 10, 10)),
        (Functional("mean"), (2, 1, 10, 10)),
        (Residual(), (2, 4)),
        (Resnet(), (2, 1, 10, 10)),
        (Resnet("in place"), (2, 1, 10, 10)),
        (Recurrent(nn.GRU, "all", num_layers=2), (2, 5, 3)),
        (Recurrent(nn.LSTM, "nested"), (2, 5, 3)),
        (Recurrent(nn.RNN, "hidden", bias=False), (2, 5, 3)),
        (nn.Sequential(nn.Linear(3, 6), nn.GELU(), Recurrent(nn.LSTM, "all", inputs=6)), (2, 5, 3)),
        (nn.Sequential(nn.Conv1d(1, 4, 3), nn.Sigmoid(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(16, 2)), (2, 1, 10)),
    ],
)
def test_what_is_found_can_be_removed(module: Any, shape: tuple[int, ...]) -> None:
    """Of every kind of layer the odd units are taken out, and the outputs are those of the module that reads none of them."""
    torch.manual_seed(0)
    for layer in module.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    masked, pruned = copy.deepcopy(module.eval()), copy.deepcopy(module.eval())
    groups, reason = find_groups(module)
    assert groups, reason
    for group in groups:
        replay(pruned, [group.keeping(range(0, group.size, 2))])
        for member in (each for each in group.members if each.reads):
            weight = masked.get_parameter(member.tensor).data
            weight.unflatten(member.axis, (group.size, member.width)).movedim(member.axis, 0)[1::2] = 0
    given = torch.randn(32, *shape[1:])
    assert torch.allclose(pruned(given), masked(given), atol=1e-5)
    assert not torch.allclose(pruned(given), module(given), atol=1e-3)


def test_recurrent_units_read_otherwise_are_left() -> None:
    """The cell state, and two directions joined, are left."""
    assert found(Recurrent(nn.LSTM, "cell")) == {}
    assert found(Recurrent(nn.LSTM, "all", bidirectional=True)) == {}


def test_what_cannot_be_traced_says_why() -> None:
    """A forward that branches on numbers is not traced, and the reason is told."""
    groups, reason = find_groups(Branching())
    assert groups == ()
    assert reason.startswith("its forward cannot be traced (TraceError: symbolically traced variables cannot be used")


def test_torchs_own_encoder_is_known() -> None:
    """The feed-forward units of torch's transformer layer are found by their names; a user's list of layers is not."""
    module = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False)
    assert found(module) == {"layers.0.linear1": ("ffn", 16), "layers.1.linear1": ("ffn", 16)}
    assert layer_list(module) == "layers"
    assert layer_list(nn.Sequential(nn.Linear(2, 2))) is None
