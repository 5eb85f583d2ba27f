"""What this processor is, and which kinds of arithmetic it has instructions for."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path

# Instructions without which a precision is emulated, or not quicker than float32. One of them is enough.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
_INT8 = {"avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}


def processor_name() -> str:
    """The name of the processor, such as `AMD EPYC 9654`."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """Instruction sets, as Linux names them; empty where they cannot be read."""
    flags = frozenset((_cpuinfo("flags") or _cpuinfo("Features")).split())
    if not flags and platform.machine() == "arm64":
        return frozenset({"asimddp"})  # every Apple processor since the M1
    return flags


def supported_precisions(flags: frozenset[str]) -> tuple[str, ...]:
    """The precisions that are worth a measurement with these instructions.

    Args:
        flags: See `processor_flags`.
    """
    supported = ["float32"]
    if flags & _BFLOAT16:
        supported.append("bfloat16")
    if flags & _INT8 and find_spec("ai_edge_litert"):
        supported.append("int8")
    return tuple(supported)


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
