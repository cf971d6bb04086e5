"""The script behind the generators' figures: everyone is asked as often, ratios are of rounds, tokens are those of `generate`."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from weighbridge.bench.generation import generate
from weighbridge.optimize.backends.torch_backend import TorchDecoder

TEXT = np.arange(500) % 90


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script as a module."""
    return load_script("generator_figures")


def test_all_are_asked_in_every_round_and_the_first_is_not_counted(script: ModuleType) -> None:
    """Three rounds ask each contestant four times, the same prompt in a round; the first answers are left out."""
    asked: dict[str, list[int]] = {"a": [], "b": []}

    def asking(name: str) -> Callable[[Any], tuple[float, ...]]:
        def ask(ids: Any) -> tuple[float, ...]:
            asked[name].append(int(ids[0, 0]))
            return float(len(asked[name])), 1.0

        return ask

    taken = script.in_turn({name: asking(name) for name in asked}, np.array([[10, 0], [20, 0]]), 3)
    assert asked == {"a": [10, 20, 10, 20], "b": [10, 20, 10, 20]}
    assert taken["a"].tolist() == [[2, 1], [3, 1], [4, 1]]


def test_speed_is_the_median_of_the_rounds_ratios(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Half the time of `generate` in every round is 2.00x, whatever the pace of the rounds; TPOT leaves the first token out."""
    pace = np.linspace(1, 3, 12)[:, None]
    script.print_speed({"generate": 64 * pace, "fast": np.full((1, 4), 8.0) * pace})
    lines = capsys.readouterr().out.splitlines()
    assert "1.00x [1.00, 1.00] as fast as generate" in lines[0]
    assert "2.00x [2.00, 2.00] as fast as generate; TTFT 16.00 ms, TPOT 16.00 ms" in lines[1]


def test_prompts_are_of_mixed_length(script: ModuleType) -> None:
    """Two hundred prompts of 4 to 100 tokens, each a piece of the text."""
    prompts = script.prompts_of_mixed_length(TEXT, 200)
    lengths = [ids.shape[1] for ids in prompts]
    assert len(prompts) == 200
    assert (min(lengths), max(lengths)) == (4, 100)
    assert all((np.diff(ids[0]) % 90 == 1).all() for ids in prompts)


def test_likelihood_is_of_all_but_the_first_token(script: ModuleType) -> None:
    """A model that knows nothing of 90 tokens has -ln p = ln 90 at each of the seven scored tokens of a window of eight."""

    class Knows:
        def step(self, ids: Any, mask: Any, past: Any) -> tuple[Any, None]:
            del mask, past
            return np.zeros((*ids.shape, 90), np.float32), None

    found = script.nll_of(Knows(), TEXT[:16].reshape(2, 8))
    np.testing.assert_allclose(found, 7 * math.log(90))


def test_our_loop_gives_the_tokens_of_generate(script: ModuleType) -> None:
    """The same greedy tokens as transformers' own loop on the same module, those that would end an answer too."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 90, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    module = GPT2LMHeadModel(GPT2Config(initializer_range=0.3, bos_token_id=0, eos_token_id=0, **sizes))
    module = script.endless(module)
    for length in (1, 5, 20):
        ids = TEXT[None, 7 : 7 + length]
        ours = generate(TorchDecoder(module), ids, np.ones_like(ids), 16).tokens
        np.testing.assert_array_equal(ours, script.by_generate(module, ids, 16))
