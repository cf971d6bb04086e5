"""What every model of a run takes: the workload's own, and the .onnx artifacts that are weighed beside it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...optimize.errors import InputError
from ...optimize.loading import read_source_signature
from ...optimize.model import Signature, TensorSpec
from ...optimize.onnx_files import read_signature, read_valid
from ...optimize.source import Source

_Place = tuple[str, int]
"""A dimension: the name of an input, and the axis."""


def common_signature(source: Source, artifacts: Sequence[Path]) -> Signature:
    """The signature of a model, with every dimension fixed that an .onnx artifact has fixed, such as the batch or the length.

    Raises:
        InputError: a file is missing or damaged, or two have fixed a dimension at different sizes.
    """
    signature = read_source_signature(source)
    if signature.kind == "decoder":
        return signature
    fixed = {place: (size, source.reference) for place, size in _fixed(signature).items()}
    for path in dict.fromkeys(each for each in artifacts if each.suffix == ".onnx" and each != source.path):
        for place, size in _fixed(read_signature(read_valid(path))).items():
            known, by = fixed.setdefault(place, (size, str(path)))
            if known != size:
                raise _conflict(place, f"{by} at {known}", f"{path} at {size}")
    sizes = {place: size for place, (size, _) in fixed.items()}
    return replace(signature, inputs=tuple(_narrowed(spec, sizes) for spec in signature.inputs))


def _fixed(signature: Signature) -> dict[_Place, int]:
    return {
        (spec.name, axis): size
        for spec in signature.inputs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, int)
    }


def _narrowed(spec: TensorSpec, sizes: dict[_Place, int]) -> TensorSpec:
    shape = tuple(sizes.get((spec.name, axis), size) for axis, size in enumerate(spec.shape))
    return replace(spec, shape=shape)


def _conflict(place: _Place, *files: str) -> InputError:
    name, axis = place
    what = f"dimension {axis}{' (the batch)' if axis == 0 else ''} of the input '{name}'"
    return InputError(
        f"no call suits all models: {what} is fixed by {' and by '.join(files)}. Export one of them anew with that dimension free, "
        "or all with the same"
    )
