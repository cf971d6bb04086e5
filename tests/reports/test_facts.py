"""Machines in words."""

from weighbridge.reports.facts import machine_facts


def test_a_gpu_is_told_where_there_is_one() -> None:
    """GPU and driver stand behind the memory; a machine without any has no line for them."""
    found = list(machine_facts({"gpu": "NVIDIA L4", "gpu_driver": "580.65.06", "memory_bytes": 8e9}))
    assert found == [("Memory", "8.00 GB"), ("GPU", "NVIDIA L4"), ("GPU driver", "580.65.06")]
    assert list(machine_facts({"gpu": "", "gpu_driver": "", "cores": 2})) == [("Cores", "2")]
