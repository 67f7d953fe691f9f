"""What a result was measured on."""

import importlib.metadata
import os
import platform
from pathlib import Path


def describe() -> dict:
    """Processor, cores, memory in GB, and versions."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    processor = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy", "scipy")}
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        **versions,
    }
