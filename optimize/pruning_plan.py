"""Structural changes of a torch module as plain data: made once by pruning, made again before saved weights are loaded.

A change names the tensors that hold a group's units and the units that are kept. It is replayed on a module of the shape
that it was made for; changes compose in their order.

    {"kind": "units-kept", "group": "0", "target": "units", "size": 16, "kept": [0, 2, ...],
     "members": [["0.weight", 0, 1, 1], ["0.bias", 0, 1, 1], ["2.weight", 1, 1, 1]], "counts": {"0.out_features": 1}}
    {"kind": "layers-kept", "group": "bert.encoder.layer", "target": "layers", "size": 12, "kept": [0, 2, ...]}
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, TypeAdapter, model_validator

from .errors import BuildError, InputError
from .files import write_json
from .model import CacheSpec
from .plain_data import parse_json

Target = Literal["ffn", "heads", "units", "channels", "layers"]
Change = dict[str, Any]
PLAN = "pruning.json"
"""The file beside a transformers folder's weights that holds the changes made to the architecture of its config."""


@dataclass(frozen=True)
class Member:
    """Where a tensor holds a group's units: along `axis`, `blocks` times over, each unit `width` entries wide.

    A member that `reads` holds the weights by which others read the units; where those are zero, the units do nothing.
    """

    tensor: str
    axis: int
    width: int = 1
    blocks: int = 1
    reads: bool = False


@dataclass(frozen=True)
class Group:
    """Units that can be removed, each from all its members at once.

    Attributes:
        target: what the units are.
        name: the layer that makes them.
        size: how many there are.
        members: the tensors that hold them.
        counts: attributes of modules that state a size, and how much of it a unit is.
    """

    target: Target
    name: str
    size: int
    members: tuple[Member, ...]
    counts: tuple[tuple[str, int], ...] = ()

    def keeping(self, kept: Sequence[int]) -> Change:
        """The change that leaves only the units `kept`."""
        return {
            "kind": "units-kept",
            "group": self.name,
            "target": self.target,
            "size": self.size,
            "kept": list(kept),
            "members": [[member.tensor, member.axis, member.width, member.blocks] for member in self.members],
            "counts": dict(self.counts),
        }


def replay(module: Any, changes: Iterable[Change]) -> None:
    """Make structural changes in place.

    Raises:
        BuildError: a change of an unknown kind, or one that does not fit the module.
    """
    makers = {"units-kept": _keep_units, "layers-kept": _keep_layers}
    for change in changes:
        make = makers.get(str(change.get("kind")))
        if make is None:
            raise BuildError(
                f"unknown structural change {change.get('kind')!r} of a {type(module).__name__}; "
                "this artifact was built by a later release: build it again"
            )
        make(module, change)


def write_plan(folder: Path, changes: Sequence[Change]) -> None:
    """Lay the changes beside a transformers folder's weights."""
    write_json(folder / PLAN, {"changes": list(changes)})


def read_plan(folder: Path) -> tuple[Change, ...]:
    """The changes of a transformers folder; none where it was not pruned.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / PLAN
    if not path.is_file():
        return ()
    try:
        return checked_changes(parse_json(path.read_text(encoding="utf-8"))["changes"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a readable pruning plan ({' '.join(str(error).split())}); build the pruned model again"
        ) from error


class _Kept(BaseModel):
    """What is written of the layers, or units, that are kept."""

    group: str
    target: Target
    size: PositiveInt
    kept: list[NonNegativeInt] = Field(min_length=1)

    @model_validator(mode="after")
    def _places_in_order(self) -> Self:
        if self.kept != sorted(set(self.kept)) or self.kept[-1] >= self.size:
            raise ValueError(f"kept must rise and stay below {self.size}; given {self.kept}")
        return self


class _UnitsKept(_Kept):
    members: list[tuple[str, NonNegativeInt, PositiveInt, PositiveInt]]
    counts: dict[str, PositiveInt]


def checked_changes(data: Any) -> tuple[Change, ...]:
    """Changes as they were read from a file, each held to its form; of an unknown kind `replay` will say so.

    Raises:
        ValueError: they are no list of changes, or one lacks something or holds what it cannot.
    """
    changes = TypeAdapter(list[Change]).validate_python(data)
    forms: dict[str, type[_Kept]] = {"units-kept": _UnitsKept, "layers-kept": _Kept}
    for change in changes:
        form = forms.get(str(change.get("kind")))
        if form is not None:
            form.model_validate(change)
    return tuple(changes)


def cache_after(cache: CacheSpec | None, changes: Iterable[Change]) -> CacheSpec | None:
    """A decoder's cache after changes; all layers lose the same number of heads."""
    if cache is None:
        return None
    for change in changes:
        if change["target"] == "layers":
            cache = replace(cache, layers=len(change["kept"]))
        elif change["target"] == "heads":
            cache = replace(cache, heads=len(change["kept"]))
    return cache


def _keep_units(module: Any, change: Change) -> None:
    for name, axis, width, blocks in change["members"]:
        _narrow(module, change, Member(name, axis, width, blocks))
    for path, share in change["counts"].items():
        owner, _, attribute = path.rpartition(".")
        try:
            setattr(module.get_submodule(owner), attribute, share * len(change["kept"]))
        except AttributeError as error:
            raise _misfit(change, f"it has no {owner}") from error


def _narrow(module: Any, change: Change, member: Member) -> None:
    """Put the kept part of a parameter or buffer in its place."""
    import torch

    owner_name, _, name = member.tensor.rpartition(".")
    try:
        owner = module.get_submodule(owner_name)
        old = getattr(owner, name)
    except AttributeError as error:
        raise _misfit(change, f"it has no {member.tensor}") from error
    expected = change["size"] * member.width * member.blocks
    found = old.shape[member.axis] if member.axis < old.ndim else 0
    if found != expected:
        raise _misfit(change, f"{member.tensor} has {found} entries where {expected} are meant")
    index = torch.tensor(entries(change["kept"], change["size"], member), dtype=torch.int64)
    new = old.detach().index_select(member.axis, index)
    setattr(owner, name, torch.nn.Parameter(new, old.requires_grad) if isinstance(old, torch.nn.Parameter) else new)


def entries(units: Sequence[int], size: int, member: Member) -> list[int]:
    """The places along a member's axis at which it holds these units.

    >>> entries([0, 2], 3, Member("weight", 0, width=2, blocks=2))
    [0, 1, 4, 5, 6, 7, 10, 11]
    """
    width = member.width
    starts = [(block * size + unit) * width for block in range(member.blocks) for unit in units]
    return [start + place for start in starts for place in range(width)]


def _keep_layers(module: Any, change: Change) -> None:
    """Leave out whole layers; those that know their number (it finds their cache) are numbered anew."""
    import torch

    owner_name, _, name = change["group"].rpartition(".")
    try:
        layers = module.get_submodule(change["group"])
    except AttributeError as error:
        raise _misfit(change, f"it has no {change['group']}") from error
    if len(layers) != change["size"]:
        raise _misfit(change, f"{change['group']} has {len(layers)} layers where {change['size']} are meant")
    kept = [layers[place] for place in change["kept"]]
    for number, layer in enumerate(kept):
        for part in layer.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = number
    setattr(module.get_submodule(owner_name), name, torch.nn.ModuleList(kept))


def _misfit(change: Change, why: str) -> BuildError:
    return BuildError(
        f"the pruning of {change['group']} does not fit the model: {why}. The model's code has changed since; build again"
    )
