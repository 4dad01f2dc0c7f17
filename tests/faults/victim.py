"""A small study in a folder of its own, that dies by SIGKILL at a moment that is named or counted.

`python victim.py` reads lines of JSON, each a list of {folder, home, moment, what, kernel, drawn,
streams}, runs the study in a child for each, all at once, and prints their exit codes; with a
`kernel` the notebook is executed by papermill, without one in the child itself, which is faster.
Figures that are not `drawn` hold their words alone: drawing takes a third of the study.
The folder holds a copy of notebooks and params. A checkpoint is written after every second step,
and answers are kept after every second batch, by a clock that counts how often it is asked. What is
computed is noted in `done.log`, a line per step; how many times files were touched in `touched`.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import nbformat
import papermill
import torch
from matplotlib.figure import Figure
from patience import PATIENCE

from studylib.app import cli
from studylib.core import filesystem
from studylib.evaluation import answers, generate, metrics
from studylib.runs import inputs, layers, supervision
from studylib.store import exports
from studylib.store import store as store_store
from studylib.training import checkpoint, teachers

HALF = b"half"


def die() -> None:
    """As the power does it."""
    os.kill(os.getpid(), signal.SIGKILL)


class Clock:
    """Stands for `time` where checkpoints are due: a second passes whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """One more."""
        self.now += 1
        return self.now


def at_call(
    owner: object,
    name: str,
    number: int,
    condition: Callable[..., bool] = lambda *_: True,
    *,
    after: bool = False,
) -> None:
    """Die at the `number`-th call of a function whose arguments meet the condition: before it, or
    after."""
    real, seen = getattr(owner, name), []

    def called(*given: object, **more: object) -> object:
        fits = condition(*given)
        seen.extend([1] * fits)
        if fits and len(seen) == number and not after:
            die()
        result = real(*given, **more)
        if fits and len(seen) == number and after:
            die()
        return result

    setattr(owner, name, called)


def half_written(
    owner: object,
    name: str,
    number: int,
    place: int,
    condition: Callable[..., bool] = lambda *_: True,
) -> None:
    """Die at the `number`-th call of a function that writes and whose arguments meet the condition,
    when half of its file (its argument at `place`) is written."""
    real, seen = getattr(owner, name), []

    def called(*given: object, **more: object) -> object:
        result = real(*given, **more)
        seen.extend([1] * condition(*given))
        if condition(*given) and len(seen) == number:
            path = Path(str(given[place]))
            os.truncate(path, path.stat().st_size // 2)
            die()
        return result

    setattr(owner, name, called)


def named(name: str) -> Callable[..., bool]:
    """Whether the first argument is a path of this name."""
    return lambda path, *_: Path(str(path)).name == name


def draft_of(name: str) -> Callable[..., bool]:
    """Whether the first argument is the draft of a file of this name."""
    return lambda path, *_: Path(str(path)).match(f"{name}.*{filesystem.DRAFT}")


def of(kind: str) -> Callable[..., bool]:
    """Whether the first argument is a run of this kind."""
    return lambda run, *_: run.kind == kind


def at_cell(number: int) -> None:
    """Die before the `number`-th cell of a notebook, whose kernel is left alone."""
    from papermill.clientwrap import PapermillNotebookClient

    at_call(PapermillNotebookClient, "execute_cell", number)


def no_memory() -> None:
    """What a machine says that has too little of it."""
    torch.empty(1 << 60)


def out_of_memory(kind: str, number: int) -> None:
    """The `number`-th run of a kind finds no memory."""
    real, seen = inputs.load, []

    def load(store: store_store.Store, source: object) -> object:
        if sys._getframe(1).f_globals["__name__"] == f"studylib.runs.{kind}":
            seen.append(1)
            if len(seen) == number:
                no_memory()
        return real(store, source)

    inputs.load = load


MOMENTS: dict[str, Callable[[], None]] = {
    "before the first manifest": lambda: at_call(
        filesystem, "write_json", 1, named("manifest.json")
    ),
    "before a student's manifest": lambda: at_call(
        store_store.Store, "_manifest", 1, lambda _, run: run.kind == "student"
    ),
    "after a manifest": lambda: at_call(
        filesystem, "write_json", 4, named("manifest.json"), after=True
    ),
    "in a checkpoint's weights": lambda: half_written(checkpoint, "save_file", 2, 1),
    "in a checkpoint, before it counts": lambda: at_call(checkpoint, "write_sealed", 2),
    "in a checkpoint, before the old one goes": lambda: at_call(checkpoint.shutil, "rmtree", 3),
    "between checkpoints": lambda: at_call(checkpoint.Learner, "step", 4),
    "while a model is saved": lambda: at_call(supervision.loading, "save", 1, after=True),
    "while layers are chosen": lambda: at_call(layers, "write_sealed", 2, after=True),
    "before result.json": lambda: at_call(filesystem, "write_sealed", 3, named("result.json")),
    "in result.json": lambda: half_written(filesystem, "settle", 1, 0, draft_of("result.json")),
    "after result.json": lambda: at_call(
        filesystem, "write_sealed", 3, named("result.json"), after=True
    ),
    "in states": lambda: half_written(teachers, "save_file", 2, 1),
    "between states": lambda: at_call(teachers, "write_json", 2),
    "in answers": lambda: half_written(answers, "save_file", 1, 1),
    "between answers": lambda: at_call(answers, "_write", 2, after=True),
    "in rows": lambda: half_written(
        exports, "save", 2, 1, lambda _, path: path.name == "rows.parquet"
    ),
    "between rows and their tables": lambda: at_call(
        Path, "replace", 3, lambda path, to: "figures" in str(to)
    ),
    "before a notebook": lambda: at_cell(1),
    "in a notebook": lambda: at_cell(4),
    "no memory for a student": lambda: out_of_memory("student", 1),
}


def count(folder: Path, last: int) -> list[str]:
    """What is done to files in the folder: opened, renamed, made or removed; die at the `last`
    time."""
    touched: list[str] = []

    def hook(event: str, given: tuple) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(
            given[0]
        ).startswith(str(folder)):
            touched.append(event)
            if len(touched) == last:
                die()

    sys.addaudithook(hook)
    return touched


def note(folder: Path) -> None:
    """Note every step of every run."""
    from studylib.core.progress import Progress

    real = Progress.step

    def step(self: Progress, number: int, **values: float) -> None:
        with (folder / "done.log").open("a") as log:
            log.write(f"{self.label}\t{number}\n")
        real(self, number, **values)

    Progress.step = step


def in_this_process(notebook: str, target: str, parameters: dict, **_: object) -> None:
    """What papermill does, without a kernel."""
    names: dict = {}
    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, notebook, "exec"), names)
            names |= parameters if "parameters" in cell.metadata.get("tags", []) else {}
    Path(target).write_bytes(Path(notebook).read_bytes())


def write_words(figure: Figure, file: Path, **_: object) -> None:
    """Stands for drawing a figure: write what it shows."""
    file.write_text(figure.get_label())


def main(folder: Path, moment: str, home: Path, what: str, kernel: bool, drawn: bool) -> int:
    """Run the small study, or another YAML or profile of the folder."""
    os.environ["STUDY_HOME"] = str(home)
    os.chdir(folder)
    checkpoint.time, answers.time, filesystem.CHECKPOINT_SECONDS, teachers.SHARD = (
        Clock(),
        Clock(),
        1.5,
        3,
    )
    generate.answer.__wrapped__.__kwdefaults__["batch"] = 2
    if not kernel:
        papermill.execute_notebook = in_this_process
    if not drawn:
        Figure.savefig = write_words
    note(folder)
    if moment in MOMENTS:
        MOMENTS[moment]()
    touched = count(folder, int(moment) if moment.isdigit() else 0)
    code = cli.main(["run", what])
    (folder / "touched").write_text(str(len(touched)))
    return code


def warm(asked: dict) -> None:
    """Load and count once what every child would by itself: libraries, the plan's costs."""
    os.chdir(asked["folder"])
    os.environ["STUDY_HOME"] = asked["home"]
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        cli.main(["plan", asked["what"]])
        metrics.score("", ["a"])


def begin(asked: dict) -> int:
    """A child that runs the study; what it says goes to two files."""
    folder, process = Path(asked["folder"]), os.fork()
    if process == 0:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{asked['streams']}.{name}", os.O_CREAT | os.O_WRONLY), stream)
        code = 1
        signal.alarm(PATIENCE)  # which ends a child that waits for ever
        try:
            how = (asked["moment"], Path(asked["home"]), asked["what"])
            code = main(folder, *how, asked["kernel"], asked["drawn"])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return process


def ended(process: int) -> int:
    """A child's exit code, which is negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    for number, line in enumerate(sys.stdin):
        if number == 0:
            warm(json.loads(line)[0])
        begun = [begin(asked) for asked in json.loads(line)]
        print(json.dumps([ended(process) for process in begun]), flush=True)
