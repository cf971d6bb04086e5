"""`weighbridge init`: a commented config to start from."""

from pathlib import Path

TEMPLATE = """# Weighbridge: what is weighed, which variants, for how long, and the rules that decide the exit code.
# Every key is described in docs/configuration.md; `weighbridge run --plan` says what would be done.

[workload]
name = "my-model"
task = "text-classification"       # image-classification | tabular-classification | text-generation
model = "checkpoints/my-model"     # transformers folder | hub id | file.onnx | package.module:factory
data = "test.csv"                  # csv, tsv, jsonl, parquet (also .gz) | npz | idx images | text
# calibration = "train.csv"        # for static INT8 and pruning; never the evaluation data
columns = { text = "text", label = "label" }

[[variants]]
backend = "torch"
precision = "fp32"
baseline = true

[[variants]]
backend = "onnxruntime"
precision = "fp32"

[[variants]]
backend = "onnxruntime"
precision = "int8"
# steps = [{ use = "static-int8", calibration = "entropy", samples = 256 }]

[measure]
batch_sizes = [1, 8]
sequence_lengths = [32]
threads = 1
max_seconds = 60                   # sampling time of the whole run
error_rate = 0.01                  # chance of a wrong pass, and of a wrong fail, in the whole run

[gates]
preset = "no-regression"           # latency_p50 ratio at most 1.03, accuracy at most 1 point lower

# [[gates.rules]]
# metric = "latency_p50"
# compare = "ratio"
# max = 0.6
# variants = ["onnxruntime-int8"]
"""


def command() -> None:
    """Write a commented weighbridge.toml into the current folder; an existing one is left alone."""
    from ...optimize.errors import ConfigError
    from ...optimize.files import write_text
    from ..config import DEFAULT_FILE
    from .console import standard_output

    path = Path(DEFAULT_FILE)
    if path.exists():
        raise ConfigError(f"{path} exists already and is left alone; edit it, or move it away first")
    write_text(path, TEMPLATE)
    standard_output().print(f"wrote {path}; edit it, then `weighbridge run`", markup=False)
