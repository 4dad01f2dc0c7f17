"""What the tests of faults share: a small study in a folder of its own, run in a process of its
own, and what comes of it."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import yaml
from miniatures import grouped
from patience import PATIENCE

from studylib.core.project import root
from studylib.store.store import Store

STUDY = {
    "profile": "small",
    "families": {"gpt_neox": "tiny:gpt_neox"},
    "train": {"source": "facts:train", "paragraphs": 12, "facts": 2},
    "dev": {"source": "facts:dev", "paragraphs": 2, "facts": 2},
    "tests": {"near": {"source": "facts:test", "paragraphs": 8, "facts": 2}},
    "eval_prompts": ["zero-shot"],
    "sizes": [4],
    "from_base": [],
    "teacher_steps": 6,
    "stages": [{"steps": 4, "losses": {"forward_kl": 1.0, "cross_entropy": 0.5}}],
    "lrs": [1e-3, 2e-3],
    "lr_search_steps": 2,
    "batch_size": 4,
    "pruning_contexts": 4,
    "calibration_contexts": 4,
    "num_evals": 1,
    "threads": 1,
}
MEASURED = (
    "cost",
    "timing",
    "times",
    "answer",
    "conclusion",
    "digests",
)  # files and words that tell times, and the digests of these
INTERVAL = 2  # steps and batches between checkpoints, in `victim`
WHOLE = (" cut", " cost", " loyalty")  # how the labels of runs end that are made in one go
VICTIM = Path(__file__).with_name("victim.py")


def prepare(folder: Path, **changes: object) -> Path:
    """A folder with all that the study needs."""
    for name in ("notebooks", "params"):
        shutil.copytree(
            root() / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints")
        )
    (folder / "capacity_gap.yaml").write_text(
        yaml.safe_dump(grouped(STUDY | changes)), encoding="utf-8"
    )
    return folder


class Ended(NamedTuple):
    """How a study ended: its exit code, negative where a signal did it, and what it said."""

    code: int
    out: str
    err: str


class Victims:
    """Runs small studies, each in a process of its own that may be killed."""

    def __init__(self) -> None:
        self.streams, self.number = TemporaryDirectory(), itertools.count()
        around = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        paths = [*map(str, VICTIM.parents[1:3]), os.environ.get("PYTHONPATH", "")]
        around["PYTHONPATH"] = os.pathsep.join(paths)
        self.process = subprocess.Popen(
            [sys.executable, str(VICTIM)],
            env=around,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        folder: Path,
        *moments: str,
        home: Path | None = None,
        what: str = "",
        kernel: bool = False,
        drawn: bool = True,
    ) -> list[Ended]:
        """Run the study, or `what` else is in the folder, as often as there are moments, all at
        once."""
        shared = {
            "folder": str(folder),
            "home": str(home or folder / "home"),
            "what": what or str(folder / "capacity_gap.yaml"),
            "kernel": kernel,
            "drawn": drawn,
        }
        each = [
            {"moment": moment, "streams": f"{self.streams.name}/{next(self.number)}"}
            for moment in moments or ("",)
        ]
        self.process.stdin.write(json.dumps([shared | call for call in each]) + "\n")
        self.process.stdin.flush()
        codes = json.loads(self.process.stdout.readline())
        return [
            Ended(code, *_read(call["streams"])) for code, call in zip(codes, each, strict=True)
        ]

    def close(self) -> None:
        """End the process that begins them."""
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.streams.cleanup()


def _read(prefix: str) -> list[str]:
    return [Path(f"{prefix}.{name}").read_text(encoding="utf-8") for name in ("out", "err")]


def shown(folder: Path) -> dict[str, str]:
    """Digests of what the study shows, by name, but for what is measured in seconds."""
    files = sorted((folder / "figures" / "small" / "capacity_gap").iterdir())
    return {
        file.name: sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.stem not in MEASURED
    }


def stored(home: Path) -> dict[str, str]:
    """Digests of what every finished run has made, by kind and key, but for what is measured; all
    of it is checked."""
    store = Store(home)
    folders = sorted(
        file.parent
        for file in store.root.glob("*/*/result.json")
        if file.parent.parent.name != "cost"
    )
    return {
        f"{folder.parent.name}/{folder.name}": store.finished(store.checked(folder))["digest"]
        for folder in folders
    }


def repeated(folder: Path) -> Counter[str]:
    """How many steps of each run were done more than once."""
    done = Counter((folder / "done.log").read_text(encoding="utf-8").splitlines())
    again: Counter[str] = Counter()
    for line, times in done.items():
        again[line.partition("\t")[0]] += times - 1
    return +again
