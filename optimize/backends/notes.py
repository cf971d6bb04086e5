"""What a row honestly says where no gain is to be expected on this machine."""

from ..cpu import BF16, FP16, cpu_flags, int8_target
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


def torch_int8_note(precision: str, steps: tuple[StepConfig, ...]) -> str:
    """What torch's INT8 leaves in floating point, and what compiling costs; empty where nothing is quantized by torch."""
    used = {step.use: step for step in steps}
    if "torchao-int8" in used:
        if not used["torchao-int8"].model_dump()["compile"]:
            return f"{_NO_GAIN}uncompiled, torchao quantizes operator by operator; only linear layers are in 8 bits"
        if int8_target() == "x86":
            return f"{_NO_GAIN}this CPU has no VNNI, without which torchao's products of 8-bit numbers are many times slower than FP32"
        return "only linear layers are in 8 bits; compiled at the first call, and again for a batch of one, which may take minutes"
    if precision != "int8" and "torch-dynamic-int8" not in used:
        return ""
    return "linear and recurrent layers in 8 bits only; embeddings, convolutions and attention products stay in floating point"


def joined(*notes: str) -> str:
    """The notes that say something, as one text."""
    return "; ".join(note for note in notes if note)
