"""The command line: the verbs of `study`, each with what it is given and what it calls.

study run --help; study data show small/squad --n 3

What a verb needs is imported when it is called: torch takes seconds.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from studylib.core.errors import StudyError
from studylib.core.escaping import escaped, printable
from studylib.core.filesystem import home, write_json

if TYPE_CHECKING:
    from studylib.store.store import Store

say = partial(print, flush=True)


class Parser(argparse.ArgumentParser):
    """Refuses an argument as everything else is refused: in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise StudyError."""
        raise StudyError(f"{message}: see `{self.prog} --help`.")


PARSER = Parser(
    prog="study",
    description="How far can a question-answering language model be compressed by distillation?",
)
VERBS = PARSER.add_subparsers(required=True, metavar="verb")


def verb(arguments: Mapping[str, Mapping]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a verb of its name, with its docstring as help, and with these arguments as
    `add_argument` of argparse takes them."""

    def add(call: Callable[..., None]) -> Callable[..., None]:
        parser = VERBS.add_parser(call.__name__, help=call.__doc__, description=call.__doc__)
        parser.set_defaults(call=call)
        for name, options in arguments.items():
            parser.add_argument(name, **options)
        return call

    return add


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when it went well, 2 with one sentence when the user can mend it, 130 when
    interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may have bytes that are no text
    try:
        chosen = vars(PARSER.parse_args(arguments))
        _settle_home()
        with redirect_stdout(escaped(sys.stdout)):  # which may quote data, files and models
            chosen.pop("call")(**chosen)
        sys.stdout.flush()
    except StudyError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("\nstudy: stopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads a pipe (`study status | head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a place that was named: a store, a file to read or to write
        if error.filename is None:
            raise
        return _refuse(
            StudyError(
                f"{error.filename} cannot be read or written ({error.strerror}): name another"
                " place, or have the store elsewhere (STUDY_HOME)."
            )
        )
    return 0


def _refuse(error: StudyError) -> int:
    print(f"study: {error}", file=sys.stderr)
    return 2


def _settle_home() -> None:
    """Make STUDY_HOME an absolute path, as notebooks and workers are executed in other folders. It
    is the home of a user who has none, as in containers: libraries that look for one fail
    otherwise."""
    if os.environ.get("STUDY_HOME"):
        os.environ["STUDY_HOME"] = str(home())
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = str(home())


PROFILE = {
    "nargs": "?",
    "default": "tiny",
    "help": "a folder of params/ or a YAML file named after its notebook (default: tiny)",
}


@verb(
    {
        "profile": PROFILE,
        "--engine": {"help": "who computes: local, ray or slurm, whatever the parameters say"},
        "--only": {
            "metavar": "METHOD",
            "help": "of the notebook `methods`: this one beside the control and plain distillation",
        },
        "--compute": {
            "action": "store_true",
            "help": "make what is missing, even where there are exported rows to show",
        },
    }
)
def run(profile: str, engine: str | None, only: str | None, compute: bool) -> None:
    """Complete the missing runs of a profile, then execute its notebooks."""
    from studylib.app import batch

    batch.run(profile, engine, only, compute)


@verb(
    {
        "profile": PROFILE,
        "--method": {
            "required": True,
            "metavar": "NAME",
            "help": "whose options are searched; `objective`: the profile's own losses",
        },
        "--trials": {"type": int, "default": 24, "help": "how many, the defaults among them (24)"},
        "--batch": {"type": int, "default": 1, "help": "how many are trained at once (1)"},
        "--seed": {"type": int, "default": 0, "help": "of the sampler (0)"},
        "--space": {
            "type": Path,
            "metavar": "FILE",
            "help": "a YAML of ranges by option; of lr and targets, too",
        },
    }
)
def search(
    profile: str, method: str, trials: int, batch: int, seed: int, space: Path | None
) -> None:
    """Search a method's options on dev, with equal budgets, and recommend some."""
    from studylib.app import search as app_search

    app_search.search(profile, method, trials, batch, seed, space)


@verb({"profile": PROFILE})
def status(profile: str) -> None:
    """Tell which runs of a profile are done, missing or failed, and why."""
    from studylib.app import batch

    for line in batch.status(profile):
        say(line)


@verb(
    {
        "profile": PROFILE,
        "--device": {
            "help": "hours on a named device (h100, ...), or on one of so many FLOP/s and"
            " gigabytes: 165e12:24"
        },
        "--out": {"type": Path, "help": "a CSV file with a line per run"},
    }
)
def plan(profile: str, device: str | None, out: Path | None) -> None:
    """Tell what every run of a profile takes, before anything is fetched: FLOPs, memory, disk and
    hours."""
    from studylib.app import notebooks
    from studylib.app import plan as app_plan
    from studylib.runs import budget

    _check_place(out)
    card = app_plan.named(device) if device else None
    jobs, work = notebooks.jobs(profile), budget.SHARED
    chosen = card or app_plan.here([job.plan for job in jobs], work)
    table = app_plan.runs(jobs, chosen, work)
    print(*app_plan.lines_of(table, chosen), sep="\n")
    if out is not None:
        table.to_csv(out, index=False)


@verb({"profile": PROFILE})
def report(profile: str) -> None:
    """Write what the notebooks of a profile found as one HTML page."""
    from studylib.app import notebooks
    from studylib.app import report as app_report

    print(app_report.write(notebooks.jobs(profile)))


@verb({"key": {"help": "the first digits of the run's key are enough"}})
def show(key: str) -> None:
    """Show a run's manifest and what it builds on."""
    from studylib.store.store import Store

    store = Store()
    folder = store.find(key)
    print(json.dumps(store.manifest(folder), indent=1, ensure_ascii=False))
    print("\nbuilds on:", *_ancestry(store, folder), sep="\n")


def _ancestry(store: "Store", folder: Path, role: str = "") -> Iterator[str]:
    """A line for the run in a folder, and below it those for what it builds on."""
    if not (folder / "manifest.json").exists():
        yield f"{role}{folder.parent.name} {folder.name} (deleted)"
        return
    manifest = store.manifest(folder)
    yield f"{role}{manifest['kind']} {folder.name} ({printable(manifest['label'])})"
    for name, need in manifest["needs"].items():
        if "key" in need:
            needed = store.root / need["kind"] / need["key"]
            yield from (f"  {line}" for line in _ancestry(store, needed, f"{name}: "))
        else:
            yield f"  {name}: {json.dumps(need['input'])} {need['digest'][:12]}"


@verb(
    {
        "key": {"help": "the first digits of its key, as `study status` lists them"},
        "folder": {"type": Path, "help": "where to; must not be there yet"},
        "--push": {
            "metavar": "REPO",
            "help": "upload it to the Hugging Face hub, too (a new repository is private)",
        },
    }
)
def export(key: str, folder: Path, push: str | None) -> None:
    """Write a teacher or student as a plain transformers folder with a model card."""
    from studylib.app import export as app_export

    print(
        f"{app_export.export(key, folder)}: the model, its tokenizer, and README.md, which says how"
        " to use it."
    )
    if push:
        print(app_export.push(folder, push))


@verb(
    {
        "profile": PROFILE,
        "--sample": {
            "type": int,
            "default": 20,
            "help": "how many questions of a set of answers are asked again, at least (20)",
        },
        "--seed": {
            "type": int,
            "help": "draw the sets and questions of this seed again (else: by chance; the seed is"
            " said)",
        },
    }
)
def verify(profile: str, sample: int, seed: int | None) -> None:
    """Redraw a profile's tables and figures from their rows, ask a sample of questions again, and
    tell what differs."""
    from studylib.app import notebooks
    from studylib.app import verify as app_verify

    app_verify.verify(notebooks.jobs(profile), say, sample=sample, seed=seed)


@verb({})
def doctor() -> None:
    """Tell where the environment departs from constraints.txt, what is at hand, and what is wrong
    in the store."""
    from studylib.app import doctor as app_doctor

    app_doctor.examine(say)


@verb(
    {
        "profile": {
            "nargs": "?",
            "help": "a profile or YAML file (default: all profiles), or the word `show`",
        },
        "set": {"nargs": "?", "help": "after `show`: a data set, as in-domain or small/squad"},
        "--n": {"type": int, "default": 1, "help": "how many contexts to show"},
        "--prompt": {
            "default": "zero-shot",
            "help": "how to ask: zero-shot, one-shot, one-shot retrieved, chat zero-shot, ...",
        },
    }
)
def data(profile: str | None, set: str | None, n: int, prompt: str) -> None:
    """List the data sets of a profile; after `show`, prompts of a set as a model sees them."""
    from studylib.app import datasets

    if profile == "show" and (set is None or n < 1):
        raise StudyError(
            "study data show needs a data set, and --n of at least 1: `study data` lists the sets."
        )
    lines = datasets.shown(set or "", n, prompt) if profile == "show" else datasets.listed(profile)
    for line in lines:
        say(line)


@verb(
    {
        "--device": {
            "help": "instead: tokens a second, share of peak and memory of training known sizes"
            " there: cuda, cpu or auto"
        },
        "--out": {
            "type": Path,
            "help": "a JSON file for all that was measured, and its table beside it as .md",
        },
        "--quick": {"action": "store_true", "help": "less of everything: under five minutes"},
    }
)
def bench(device: str | None, out: Path | None, quick: bool) -> None:
    """Measure speed on this machine."""
    from studylib.app import notebooks
    from studylib.bench import device as bench_device
    from studylib.bench import speed, table

    if device and (out or quick):
        raise StudyError("--device is measured by itself: leave out --out and --quick.")
    if device:
        bench_device.speed(device, say)
        return
    _check_place(out)
    beside = table.beside(out) if out else None
    (job,) = [job for job in notebooks.jobs("small") if job.notebook.stem == "capacity_gap"]
    measured = speed.speed(job.plan, speed.QUICK if quick else speed.FULL, say)
    written = table.table(measured)
    say(f"\n{written}")
    if out and beside:
        write_json(out, measured)
        beside.write_text(written, encoding="utf-8")


def _check_place(out: Path | None) -> None:
    """Raise StudyError, before the work is done, for a file that could not be written after it."""
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise StudyError(f"--out {out} is a folder, or in none: make that, or name another.")
