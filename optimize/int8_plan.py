"""Which layers of a torch module multiply 8-bit weights, as plain data beside the weights.

    {"scheme": "torch.ao", "layers": ["bert.encoder.layer.0.attention.self.query", ...], "reduce_range": true, "compile": false}

In the file of weights such a layer holds, for each of its weights W, the integers under W's own name, and beside them `W_scale`,
one number an output: the weight is the integer times the scale, and zero is 0. Biases stay as they are.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import InputError
from .files import write_json

INT8 = "int8.json"
"""The file beside the weights of a module that has such layers."""
SCALE = "_scale"
"""What the name of a weight's scales ends in, after the name of the weight."""


class Int8Plan(BaseModel):
    """By what library which layers are quantized.

    Attributes:
        scheme: torch's own dynamic quantization, or torchao's.
        layers: their dotted names, in the order of the module.
        reduce_range: integers and activations are held to 7 bits; torch's own scheme does that to activations always.
        compile: the opened module is compiled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    scheme: Literal["torch.ao", "torchao"]
    layers: tuple[str, ...]
    reduce_range: bool = False
    compile: bool = False

    def write(self, folder: Path) -> None:
        """Lay the plan beside the folder's weights."""
        write_json(folder / INT8, self.model_dump(mode="json"))


def read_int8_plan(folder: Path) -> Int8Plan | None:
    """The plan of a folder; None where it has none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / INT8
    if not path.is_file():
        return None
    try:
        return Int8Plan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        reason = " ".join(error.errors()[0]["msg"].split())
        raise InputError(f"{path} is not a readable plan of INT8 layers ({reason}); build the variant again") from error
