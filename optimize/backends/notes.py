"""What a row honestly says where no gain is to be expected on this machine."""

from ..cpu import BF16, FP16, cpu_flags
from ..recipe import StepConfig

_NO_GAIN = "no gain expected here: "


def half_precision_note(precision: str) -> str:
    """Why FP16 or BF16 gains nothing on this processor; empty where the processor computes in it."""
    flags = cpu_flags()
    if precision == "fp16" and not flags & FP16:
        other = "; BF16 is its half precision" if flags & BF16 else ""
        return f"{_NO_GAIN}this CPU has no FP16 arithmetic, so FP16 is computed as FP32 with conversions{other}"
    if precision == "bf16" and not flags & BF16:
        return f"{_NO_GAIN}this CPU has no BF16 arithmetic, so BF16 is computed as FP32 with conversions"
    return ""


def zeros_note(steps: tuple[StepConfig, ...]) -> str:
    """Why unstructured pruning gains nothing in dense kernels; empty where no step prunes so."""
    if any(step.use == "magnitude-pruning" for step in steps):
        return f"{_NO_GAIN}dense kernels multiply zeros as fast as other numbers, and the file keeps its size"
    return ""


def weight_only_note(precision: str, steps: tuple[StepConfig, ...]) -> str:
    """Where packed weights gain and where they do not; empty where no weight is packed."""
    if precision != "int4" and all(step.use != "weight-only" for step in steps):
        return ""
    return (
        "weight-only: gains where few rows share a reading of the weights (a generator's next token); "
        "no gain expected here, or a loss, for a classifier's batches and long prompts"
    )


def joined(*notes: str) -> str:
    """The notes that say something, as one text."""
    return "; ".join(note for note in notes if note)
