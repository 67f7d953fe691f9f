"""What a result was measured on."""

import importlib.metadata
import os
import platform
from pathlib import Path

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""What decides how fast convolutions and products are, as Linux names it."""


def describe() -> dict:
    """Processor, its instruction sets, cores, memory in GB, and versions."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    processor = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line.split(": ")[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy", "scipy")}
    return {
        "processor": processor,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        **versions,
    }
