"""Where a TensorRT plan was made, and for which shapes: a plan holds machine code for one GPU, and no other may run it.

What is known of it lies beside it, in engine.json.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from .cuda import Cuda
from .errors import InputError, UnavailableError
from .files import write_json
from .nvml import gpu_at
from .tensorrt_library import load_tensorrt

PLAN_FILE = "model.plan"
ENGINE_FILE = "engine.json"

Shape = tuple[int, ...]
Range = tuple[Shape, Shape, Shape]
"""The smallest shape that an input may have, the one that the engine is tuned for, and the largest."""


class Place(BaseModel):
    """All that a plan is bound to: the GPU's name, its compute capability, the driver's version, TensorRT's version."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    gpu: str
    capability: str
    driver: str
    tensorrt: str

    def __str__(self) -> str:
        """The place in words."""
        return f"{self.gpu} (compute capability {self.capability}), driver {self.driver}, TensorRT {self.tensorrt}"


class EngineFacts(BaseModel):
    """What is known of a plan beside its bytes.

    Attributes:
        place: where it was made, and may be run.
        ranges: the shapes of each input that it takes.
        cuda_graph: whether an opened plan's calls are recorded as CUDA graphs.
        parameters: learnt numbers of the ONNX graph that it was made from; a plan does not tell of its own.
        sparsity: the share of exact zeros among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    place: Place
    ranges: dict[str, Range]
    cuda_graph: bool = False
    parameters: int = 0
    sparsity: float = 0.0

    def write(self, folder: Path) -> None:
        """Lay the facts beside the plan."""
        write_json(folder / ENGINE_FILE, self.model_dump(mode="json"))

    @staticmethod
    def read(folder: Path) -> "EngineFacts":
        """Read the facts beside a plan.

        Raises:
            InputError: they are missing or damaged.
        """
        path = folder / ENGINE_FILE
        try:
            return EngineFacts.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(
                f"{path} does not say where the plan was made, and a plan runs only there; build the variant again"
            ) from error


def place_here() -> Place:
    """The first GPU that this process may see, its driver, and the installed TensorRT.

    Raises:
        UnavailableError: one of them is missing.
        BuildError: CUDA does not answer.
    """
    gpu = gpu_at(Cuda().bus())
    version = str(load_tensorrt().__version__)
    return Place(gpu=gpu.name, capability=gpu.capability, driver=gpu.driver, tensorrt=version)


def need_place(made: Place) -> None:
    """Hold a plan to the place where it was made.

    Raises:
        UnavailableError: here is another one.
    """
    here = place_here()
    if made != here:
        raise UnavailableError(
            f"the plan was made on {made}, but here is {here}; a TensorRT plan runs only where it was made. Build it here again"
        )
