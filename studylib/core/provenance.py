"""What a manifest records of where and by what something was made."""

import os
import platform
import subprocess
import sys
import time
import unicodedata
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "bm25s")


def present() -> dict:
    """Versions, code, machine and time, as JSON takes them."""
    commit = _git("rev-parse", "HEAD")
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        "versions": {name: version(name) for name in LIBRARIES},
        "git": commit or None,
        "dirty": bool(_git("status", "--porcelain")) if commit else None,
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            # of what kind it is where the system does not tell what it is called
            "processor_name": _cpuinfo("model name") or platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
        "threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
    }


def instructions() -> list[str]:
    """The instructions that the processor has, as Linux calls them; nothing where that is not
    known."""
    return (_cpuinfo("flags") or _cpuinfo("Features")).split()


def _cpuinfo(name: str) -> str:
    """What Linux says of the first processor by this name, if anything."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(name)]
    return named[0] if named else ""


def _git(*words: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words],
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
