"""8-bit layers of torch: the engine that multiplies them."""

from types import SimpleNamespace

import pytest
import torch
from weighbridge.optimize.errors import UnavailableError
from weighbridge.optimize.torch_int8 import need_engine


@pytest.mark.parametrize(
    ("chosen", "supported", "taken"), [("x86", ["x86"], "x86"), ("none", ["none", "qnnpack"], "qnnpack")]
)
def test_an_engine_is_taken_where_torch_chose_none(
    monkeypatch: pytest.MonkeyPatch, chosen: str, supported: list[str], taken: str
) -> None:
    """The engine that torch chose stays; on processors for which it chose none, one that it has is taken."""
    engines = SimpleNamespace(engine=chosen, supported_engines=supported)
    monkeypatch.setattr(torch.backends, "quantized", engines)
    need_engine()
    assert engines.engine == taken


def test_without_an_engine_there_is_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of torch without any says so, and what to install."""
    monkeypatch.setattr(torch.backends, "quantized", SimpleNamespace(engine="none", supported_engines=["none"]))
    with pytest.raises(
        UnavailableError, match=r"no engine for products of 8-bit numbers\. To make one .* pip install torch"
    ):
        need_engine()
