"""How fast a generator's variants answer against transformers' `generate`, and what their perplexity costs, on one core.

Run: OMP_NUM_THREADS=1 python bench/scripts/generator_figures.py            (a GPT-2 of shape 512x6, trained at the first start)
     OMP_NUM_THREADS=1 python bench/scripts/generator_figures.py --quick    (a small one and few rounds, for trying)

All stand in one process, one thread, and take turns in random order: a round asks each of them for 64 tokens after the same 32.
Those called plain are exported and quantized, and nothing else: their caches are copied at every token.
In the same rounds a loop reads, once a token, as many bytes as each variant's file holds: what memory alone would allow.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer
from weighbridge.bench.evidence import Perplexity
from weighbridge.bench.generation import generate
from weighbridge.bench.scoring import negative_log_likelihood
from weighbridge.bench.stats import quantile_interval
from weighbridge.bench.workloads.builtin import Request
from weighbridge.bench.workloads.builtin_gpt2_text import Size, make_with
from weighbridge.optimize.backends import backend
from weighbridge.optimize.backends.base import Decoder, OpenOptions
from weighbridge.optimize.build import optimize
from weighbridge.optimize.model import Examples
from weighbridge.optimize.quiet import quiet
from weighbridge.optimize.recipe import Recipe

PROMPT, NEW, WINDOW = 32, 64, 128
SHORTEST, LONGEST = 4, 100
CONFIDENCE, ALPHA = 0.99, 0.005
GENERATE, REFERENCE, EXACT = "generate", "torch-fp32", "onnxruntime-fp32"
FULL = Size(width=512, layers=6, heads=8, train_a_library=150)
QUICK = Size(vocabulary=512, width=64, layers=2, heads=2, train_a_library=10)
RECIPES: dict[str, dict[str, Any]] = {
    REFERENCE: {"backend": "torch", "precision": "fp32"},
    "torch-int8": {"backend": "torch", "precision": "int8"},
    EXACT: {"backend": "onnxruntime", "precision": "fp32"},
    "ort-fp32-plain": {"backend": "onnxruntime", "precision": "fp32", "steps": [{"use": "export"}]},
    "onnxruntime-int8": {"backend": "onnxruntime", "precision": "int8"},
    "ort-int8-plain": {
        "backend": "onnxruntime",
        "precision": "int8",
        "steps": [{"use": "export"}, {"use": "dynamic-int8"}],
    },
    "ort-int8-packed": {"backend": "onnxruntime", "precision": "int8", "steps": [{"use": "weight-only", "bits": 8}]},
    "onnxruntime-int4": {"backend": "onnxruntime", "precision": "int4"},
    "ort-int4-plain": {
        "backend": "onnxruntime",
        "precision": "int4",
        "steps": [{"use": "export"}, {"use": "weight-only", "bits": 4}],
    },
    "ort-int4-fine": {"backend": "onnxruntime", "precision": "int4", "steps": [{"use": "weight-only", "bits": 4}]},
    "openvino-fp32": {"backend": "openvino", "precision": "fp32"},
}

Tokens = NDArray[np.int64]
Ask = Callable[[Tokens], tuple[float, ...]]
"""Answers one prompt and returns the milliseconds of each token, or of all together."""


@dataclass(frozen=True)
class Variant:
    """A variant that was built: its decoder, and the bytes of its file."""

    name: str
    decoder: Decoder
    bytes: int


def endless(module: Any) -> Any:
    """Let no token end an answer: a least number of tokens would instead forbid the one that ends it."""
    module.generation_config.eos_token_id = None
    return module.eval()


def by_generate(module: Any, ids: Tokens, count: int) -> Tokens:
    """The greedy tokens of transformers' own loop on an endless module, shape (batch, count)."""
    given = torch.from_numpy(ids)
    with torch.inference_mode():
        whole = module.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
    tokens: Tokens = whole[:, ids.shape[1] :].numpy()
    return tokens


def variants(folder: Path, tokens: Tokens) -> Iterator[Variant]:
    """Every variant that can be built here, opened on one thread."""
    shapes = ((1, PROMPT), (4, PROMPT), (2, PROMPT // 2))
    probes = tuple(
        {"input_ids": tokens[: rows * size].reshape(rows, size), "attention_mask": np.ones((rows, size), np.int64)}
        for rows, size in shapes
    )
    for name, recipe in RECIPES.items():
        usable = backend(recipe["backend"]).availability()
        if not usable.usable:
            print(f"{name}: {usable.reason}; {usable.remedy}")
            continue
        built = optimize(str(folder), Recipe.from_dict(recipe), examples=Examples(probes), task="text-generation")
        decoder: Decoder = built.open(OpenOptions(threads=1))  # type: ignore[assignment]
        yield Variant(name, decoder, built.manifest.bytes)


def asking_generate(module: Any) -> Ask:
    """Ask transformers' loop, timed from outside."""

    def ask(ids: Tokens) -> tuple[float, ...]:
        start = time.perf_counter_ns()
        by_generate(module, ids, NEW)
        return ((time.perf_counter_ns() - start) / 1e6,)

    return ask


def asking(decoder: Decoder) -> Ask:
    """Ask our loop, which owns the timestamps."""
    return lambda ids: generate(decoder, ids, np.ones_like(ids), NEW).gaps_ms


def reading(size: int) -> Ask:
    """Read so many bytes once a token: a product of one row with a matrix, which does little but read it."""
    rows = max(1, size // 4096)
    matrix, row = np.ones((rows, 1024), np.float32), np.ones(1024, np.float32)

    def ask(ids: Tokens) -> tuple[float, ...]:
        del ids
        start = time.perf_counter_ns()
        for _ in range(NEW):
            matrix @ row
        return ((time.perf_counter_ns() - start) / 1e6,)

    return ask


def in_turn(contestants: dict[str, Ask], prompts: Tokens, rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each token of each round's request, shape (rounds, parts), by contestant; the first round is not counted."""
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in contestants}
    random = np.random.default_rng(0)
    for number in range(rounds + 1):
        ids = prompts[number % len(prompts)][None]
        for name in random.permutation(list(contestants)):
            parts = contestants[name](ids)
            if number:
                taken[name].append(parts)
    return {name: np.array(parts) for name, parts in taken.items()}


def nll_of(decoder: Decoder, windows: Tokens) -> NDArray[np.float64]:
    """Summed -ln p of each window, its first token left out; shape (windows,)."""
    scored = np.ones_like(windows)
    scored[:, 0] = 0
    parts = []
    for window, counts in zip(windows, scored, strict=True):
        logits, _ = decoder.step(window[None], np.ones((1, len(window)), np.int64), None)
        parts.append(negative_log_likelihood(logits, window[None], counts[None]))
    return np.concatenate(parts)


def prompts_of_mixed_length(tokens: Tokens, count: int) -> list[Tokens]:
    """Prompts of 4 to 100 tokens from random places."""
    random = np.random.default_rng(1)
    lengths = random.integers(SHORTEST, LONGEST + 1, count)
    starts = random.integers(0, len(tokens) - LONGEST, count)
    return [tokens[start : start + length][None] for start, length in zip(starts, lengths, strict=True)]


def print_speed(taken: dict[str, NDArray[np.float64]]) -> None:
    """How many times as fast as `generate` each is: the median of the rounds' ratios, with its interval."""
    whole = {name: parts.sum(axis=1) for name, parts in taken.items()}
    for name, parts in taken.items():
        ratios = whole[GENERATE] / whole[name]
        low, high = quantile_interval(ratios, 0.5, CONFIDENCE)
        speed = NEW / float(np.median(whole[name])) * 1e3
        line = (
            f"{name:28} {speed:7.0f} tokens/s, {np.median(ratios):5.2f}x [{low:.2f}, {high:.2f}] as fast as {GENERATE}"
        )
        if parts.shape[1] > 1:
            line += f"; TTFT {np.median(parts[:, 0]):.2f} ms, TPOT {np.median(parts[:, 1:].mean(axis=1)):.2f} ms"
        print(line)


def print_perplexity(built: list[Variant], windows: Tokens) -> None:
    """The perplexity of each, and its ratio to FP32's on the same windows."""
    scores = {variant.name: nll_of(variant.decoder, windows) for variant in built}
    counted = np.full(len(windows), float(windows.shape[1] - 1))
    for name, nll in scores.items():
        ratio = Perplexity(name, "perplexity", {}, scores[REFERENCE], nll, counted).interval("ratio", ALPHA, ALPHA)
        perplexity = np.exp(nll.sum() / counted.sum())
        if ratio is not None:
            print(
                f"{name:28} perplexity {perplexity:.3f}, {ratio.value:.4f}x [{ratio.low:.4f}, {ratio.high:.4f}] of FP32's"
            )


def print_equality(module: Any, exact: Decoder, prompts: list[Tokens]) -> None:
    """On how many prompts the greedy tokens of ONNX Runtime in FP32 are those of `generate`."""
    same = 0
    for ids in prompts:
        ours = generate(exact, ids, np.ones_like(ids), NEW).tokens
        same += bool(np.array_equal(ours, by_generate(module, ids, NEW)))
    print(
        f"{EXACT}: the {NEW} greedy tokens are those of {GENERATE} on {same} of {len(prompts)} prompts of mixed length"
    )


def figures(folder: Path, text: str, rounds: int, mixed: int) -> None:
    """Print everything of one trained model."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = np.array(tokenizer(text)["input_ids"], dtype=np.int64)
    with quiet():
        module = endless(AutoModelForCausalLM.from_pretrained(folder))
    built = list(variants(folder, tokens))
    contestants = {GENERATE: asking_generate(module)}
    contestants |= {each.name: asking(each.decoder) for each in built}
    contestants |= {f"reading {each.bytes / 1e6:.1f} MB a token": reading(each.bytes) for each in built}
    prompts = tokens[: len(tokens) // PROMPT * PROMPT].reshape(-1, PROMPT)
    print_speed(in_turn(contestants, prompts, rounds))
    print_perplexity(built, tokens[: len(tokens) // WINDOW * WINDOW].reshape(-1, WINDOW))
    exact = next(each.decoder for each in built if each.name == EXACT)
    print_equality(module, exact, prompts_of_mixed_length(tokens, mixed))


def main() -> None:
    """Train the model, or take it from the cache, and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small model and few rounds")
    parser.add_argument("--rounds", type=int, default=None, help="rounds that are counted")
    chosen = parser.parse_args()
    size = QUICK if chosen.quick else FULL
    made = make_with(size, Request(seed=0), lambda share, text: print(f"training {share:.0%}, {text}", end="\r"))
    rounds = chosen.rounds or (5 if chosen.quick else 30)
    figures(
        Path(made.source.reference),
        made.evaluation_file.read_text(encoding="utf-8"),
        rounds,
        mixed=10 if chosen.quick else 200,
    )


if __name__ == "__main__":
    main()
