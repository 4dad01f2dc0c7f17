"""Where and how runs are computed."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from studylib.core.checks import Count


class Machine(BaseModel):
    """Where runs are computed; no part of their keys.

    By which engine and with which of its options; on which device (auto: cuda where there is one);
    in how many threads. Several processes, one per GPU, train or ask a model together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    engine: Literal["local", "ray", "slurm"] = "local"
    engine_options: dict[str, Any] = {}
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 2
    processes: Count = 1

    @property
    def workers(self) -> int:
        """Processes of this machine that were asked for; each makes runs of its own."""
        asked = self.engine_options.get("workers", 1) if self.engine == "local" else 1
        return asked if type(asked) is int and asked > 0 else 1
