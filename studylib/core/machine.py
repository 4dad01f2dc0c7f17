"""Where and how runs are computed."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from studylib.core.checks import Count


class Machine(BaseModel):
    """Where runs are computed; no part of their keys.

    By which engine (local, ray, slurm) and with which of its options, on which device (cpu, cuda;
    auto: cuda where there is one), in how many threads, and by how many processes together, one per
    GPU, where a model is trained or asked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    engine: str = "local"
    engine_options: dict[str, Any] = {}
    device: str = "auto"
    threads: Count = 2
    processes: Count = 1
