"""The command line: `study run`, `status`, `plan`, `report`, `show`, `export`, `verify`, `doctor`,
`data`, `bench`. Each verb is a few lines that call the rest; torch is imported late."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from studylib.core.errors import StudyError
from studylib.core.escaping import escaped, printable

if TYPE_CHECKING:
    from studylib.app.notebooks import Job


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when it went well, 2 with one sentence when the user can mend it, 130 when
    interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may have bytes that are no text
    chosen = _parser().parse_args(arguments)
    try:
        _settle_home()
        with redirect_stdout(
            escaped(sys.stdout)
        ):  # what is printed may quote data, files and models
            chosen.call(chosen)
        sys.stdout.flush()
    except StudyError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstudy: stopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads a pipe (`study status | head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a place that was named: a store, a file to read or to write
        if error.filename is None:
            raise
        advice = "name another place, or have the store elsewhere (STUDY_HOME)"
        failed = f"{error.filename} cannot be read or written ({error.strerror})"
        print(f"study: {StudyError(f'{failed}: {advice}.')}", file=sys.stderr)
        return 2
    return 0


def _settle_home() -> None:
    """Make STUDY_HOME an absolute path, as notebooks and workers are executed in other folders. It
    is the home of a user who has none, as in containers: libraries that look for one fail
    otherwise."""
    from studylib.core.filesystem import home

    if os.environ.get("STUDY_HOME"):
        os.environ["STUDY_HOME"] = str(home())
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = str(home())


def _parser() -> argparse.ArgumentParser:
    """The verbs, what each is given, and the function that it calls."""
    parser = argparse.ArgumentParser(
        prog="study",
        description=(
            "How far can a question-answering language model be compressed by distillation?"
        ),
    )
    verbs = parser.add_subparsers(required=True, metavar="verb")

    def verb(
        name: str, call: Callable[[argparse.Namespace], None], about: str
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=about)
        added.set_defaults(call=call)
        return added

    run = verb("run", _run, "run a profile: complete what is missing, then execute its notebooks")
    run.add_argument(
        "profile",
        nargs="?",
        default="tiny",
        help="a folder of params/ or a YAML file named after its notebook (default: tiny)",
    )
    run.add_argument(
        "--engine", help="who computes: local, ray or slurm, instead of what the parameters say"
    )
    run.add_argument(
        "--compute",
        action="store_true",
        help="make what is missing, even where there are exported rows to show",
    )
    status = verb("status", _status, "which runs of a profile are done, missing or failed, and why")
    status.add_argument("profile", nargs="?", default="tiny")
    plan = verb(
        "plan",
        _plan,
        "what every run of a profile takes, before anything is fetched: FLOPs, memory, disk, hours",
    )
    plan.add_argument("profile", nargs="?", default="tiny")
    plan.add_argument(
        "--device",
        help=(
            "hours on a named device (h100, ...), or on one of so many FLOP/s and gigabytes:"
            " 165e12:24"
        ),
    )
    plan.add_argument("--out", type=Path, help="a CSV file with a line per run")
    report = verb("report", _report, "write what the notebooks of a profile found as one HTML page")
    report.add_argument("profile", nargs="?", default="tiny")
    show = verb("show", _show, "a run's manifest and what it builds on")
    show.add_argument("key", help="the first digits of the run's key are enough")
    export = verb(
        "export", _export, "a teacher or student as a plain transformers folder with a model card"
    )
    export.add_argument("key", help="the first digits of its key, as `study status` lists them")
    export.add_argument("folder", type=Path, help="where to; must not be there yet")
    export.add_argument(
        "--push",
        metavar="REPO",
        help="upload it to the Hugging Face hub, too (a new repository is private)",
    )
    verify = verb(
        "verify",
        _verify,
        "redraw a profile's tables and figures from their rows, ask some answers again: what"
        " differs",
    )
    verify.add_argument("profile", nargs="?", default="tiny")
    verify.add_argument(
        "--sample",
        type=int,
        default=20,
        help="how many questions of a set of answers are asked again, at least (20)",
    )
    verify.add_argument(
        "--seed",
        type=int,
        help="draw the sets and questions of this seed again (else: by chance; the seed is said)",
    )
    verb(
        "doctor",
        _doctor,
        "where the environment departs from constraints.txt, what is at hand, what is wrong in the"
        " store",
    )
    data = verb(
        "data",
        _data,
        "the data sets of a profile, or `data show SET`: prompts as a model sees them",
    )
    data.add_argument(
        "profile",
        nargs="?",
        help="a profile or YAML file (default: all profiles), or the word `show`",
    )
    data.add_argument(
        "set", nargs="?", help="after `show`: a data set, for example near or small/squad"
    )
    data.add_argument("--n", type=int, default=1, help="how many contexts to show")
    data.add_argument(
        "--prompt",
        default="zero-shot",
        help="how to ask: zero-shot, one-shot, one-shot retrieved, chat zero-shot, ...",
    )
    bench = verb("bench", _bench, "measure speed on this machine")
    bench.add_argument(
        "what",
        nargs="?",
        default="models",
        choices=["models", "data"],
        help=(
            "models (the default): distilling and answering, on the model and data of `small`,"
            " against TRL, transformers and a plain loop; data: loading, packing and batching as"
            " many questions as SQuAD has"
        ),
    )
    bench.add_argument(
        "--device",
        help=(
            "instead: tokens a second, share of peak and memory of training known sizes there:"
            " cuda, cpu or auto"
        ),
    )
    bench.add_argument(
        "--out",
        type=Path,
        help="of models: a JSON file for all that was measured, and its table beside it as .md",
    )
    return parser


def _run(chosen: argparse.Namespace) -> None:
    from studylib.analysis import fonts
    from studylib.app import notebooks, study
    from studylib.core import filesystem
    from studylib.core.progress import spoken
    from studylib.engines import engines

    started = time.monotonic()
    jobs = [
        (job, study.folder(job.profile, job.notebook.stem))
        for job in notebooks.jobs(chosen.profile, chosen.engine)
    ]
    for job, _ in jobs:
        engines.check(job.plan.machine)
    showing = not chosen.compute and any(
        study.lacking(folder) or study.superseded(job.plan, folder) for job, folder in jobs
    )
    _announce(jobs, showing)
    if strange := fonts.advice(
        "".join(sorted({name for job, _ in jobs for name in job.plan.names}))
    ):
        print(strange, flush=True)
    failed = []
    for job, folder in jobs:
        if showing and not study.showable(job.plan, folder):
            continue
        try:
            if not showing:
                study.complete(job.plan, folder=folder)
            print(f"Executing {job.notebook.name} …", flush=True)
            executed = notebooks.execute(job, compute=not showing)
        except filesystem.NoRoom:
            raise  # there is none for the others, either
        except StudyError as error:
            print(f"{job.notebook.name} is left out: {error}", flush=True)
            failed.append(f"{job.notebook.stem}: {error}")
            continue
        print("\n" + (folder / "table.md").read_text(encoding="utf-8"))
        print(f"Table and figures: {folder}\nExecuted notebook: {executed}")
    print(
        f"Done in {spoken(time.monotonic() - started)};"
        f" {filesystem.size(filesystem.home()) / 1e6:.0f} MB in {filesystem.home()}."
    )
    if failed:
        raise StudyError(" ".join(failed))


def _announce(jobs: "Sequence[tuple[Job, Path]]", showing: bool) -> None:
    """Say what is missing, what computing it takes and what the data hold, of all notebooks before
    the first one begins."""
    from studylib.app import forecast, study
    from studylib.app import plan as app_plan
    from studylib.core import filesystem
    from studylib.core.progress import spoken
    from studylib.runs import inputs
    from studylib.store import store as store_store

    counted: set[str] = set()
    told: set[str] = set()
    seconds = 0.0
    for job, folder in jobs:
        store = store_store.Store().snapshot()
        missing = {one.planned: one for one in job.plan.runs if store.result(one) is None}
        kinds = ", ".join(
            f"{count} {kind}"
            for kind, count in Counter(one.kind for one in missing.values()).items()
        )
        wanted = f"{len(missing)} to compute{f' ({kinds})' if missing else ''}"
        print(
            f"{job.notebook.stem} ({job.profile}): {len(job.plan.runs)} runs, {wanted}.", flush=True
        )
        if showing and study.showable(job.plan, folder):
            print(
                f"Nothing is computed: shown is what was exported to {folder}. With --compute what"
                " is missing is made.",
                flush=True,
            )
        elif showing:
            print(
                "Nothing of it was exported, and nothing is computed: --compute makes it.",
                flush=True,
            )
        elif missing:
            if megabytes := forecast.download(job.plan):
                print(
                    f"To download: {megabytes} MB, into {filesystem.home() / 'downloads'}.",
                    flush=True,
                )
            inputs.check(missing.values())
            for said in (line for line in forecast.datasets(job.plan) if line not in told):
                print(said, flush=True)
                told.add(said)
            new = [run for planned, run in missing.items() if planned not in counted]
            if job.plan.machine.engine == "local":
                for said in app_plan.too_large(job.plan, new):
                    print(said, flush=True)
            seconds += forecast.seconds(job.plan, new)
            counted |= missing.keys()
    if counted:
        print(
            f"This takes about {spoken(seconds)} on this machine. Stop it at any time: the same"
            " command goes on.",
            flush=True,
        )


def _status(chosen: argparse.Namespace) -> None:
    from studylib.app import forecast, notebooks, study
    from studylib.core.progress import spoken
    from studylib.store import store as store_store

    store, total = store_store.Store().snapshot(), 0.0
    counted: set[str] = set()
    for job in notebooks.jobs(chosen.profile):
        states = study.states(job.plan, study.folder(job.profile, job.notebook.stem), store)
        counts = Counter(state for _, state, _ in states)
        print(
            f"{job.notebook.stem} ({job.profile}): "
            + ", ".join(f"{count} {state}" for state, count in counts.items())
        )
        for run, state, why in states:
            print(
                f"  {state:8} {(store.key(run) or '')[:12]:12} {run.kind:8}"
                f" {run.label}{f' ({printable(why)})' if why else ''}"
            )
        missing = {
            run.planned: run
            for run, state, _ in states
            if state != "done" and run.planned not in counted
        }
        if forecast.download(job.plan):
            print("  how long what is missing takes is known when its data are fetched")
        elif missing:
            seconds = forecast.seconds(job.plan, missing.values(), store)
            print(
                f"  about {spoken(seconds)} of computing are left on this"
                f" machine{', beside what stands above' if counted else ''}"
            )
            counted, total = counted | missing.keys(), total + seconds
    if total:
        print(f"In all about {spoken(total)} of computing are left on this machine.")


def _plan(chosen: argparse.Namespace) -> None:
    from studylib.app import notebooks
    from studylib.app import plan as app_plan
    from studylib.runs import budget

    _writable(chosen.out)
    device: app_plan.Device | None = app_plan.named(chosen.device) if chosen.device else None
    jobs, accounts = notebooks.jobs(chosen.profile), budget.Work()
    device = device or app_plan.here([job.plan for job in jobs], accounts)
    table = app_plan.runs(jobs, device, accounts)
    for line in app_plan.said(table, device):
        print(line)
    if chosen.out is not None:
        table.to_csv(chosen.out, index=False)


def _report(chosen: argparse.Namespace) -> None:
    from studylib.app import notebooks
    from studylib.app import report as app_report

    print(app_report.write(notebooks.jobs(chosen.profile)))


def _show(chosen: argparse.Namespace) -> None:
    import json

    from studylib.store import store as store_store

    store = store_store.Store()

    def tell(folder: Path, role: str, indent: str) -> None:
        if not (folder / "manifest.json").exists():
            print(f"{indent}{role}{folder.parent.name} {folder.name} (deleted)")
            return
        manifest = store.manifest(folder)
        print(f"{indent}{role}{manifest['kind']} {folder.name} ({printable(manifest['label'])})")
        for name, need in manifest["needs"].items():
            if "key" in need:
                tell(store.root / need["kind"] / need["key"], f"{name}: ", indent + "  ")
            else:
                print(f"{indent}  {name}: {json.dumps(need['input'])} {need['digest'][:12]}")

    folder = store.find(chosen.key)
    print(json.dumps(store.manifest(folder), indent=1, ensure_ascii=False))
    print("\nbuilds on:")
    tell(folder, "", "")


def _export(chosen: argparse.Namespace) -> None:
    from studylib.app import export as app_export

    print(
        f"{app_export.export(chosen.key, chosen.folder)}: the model, its tokenizer, and README.md,"
        " which says how to use it."
    )
    if chosen.push:
        print(app_export.push(chosen.folder, chosen.push))


def _verify(chosen: argparse.Namespace) -> None:
    from studylib.app import notebooks
    from studylib.app import verify as app_verify

    app_verify.verify(
        notebooks.jobs(chosen.profile),
        partial(print, flush=True),
        sample=chosen.sample,
        seed=chosen.seed,
    )


def _doctor(chosen: argparse.Namespace) -> None:
    from studylib.app import doctor

    doctor.examine(partial(print, flush=True))


def _data(chosen: argparse.Namespace) -> None:
    from studylib.app import datasets
    from studylib.core.project import known_profiles

    if chosen.profile == "show":
        if chosen.set is None or chosen.n < 1:
            raise StudyError(
                "study data show needs a data set, and --n of at least 1: `study data` lists the"
                " sets."
            )
        for part in datasets.shown(chosen.set, chosen.n, chosen.prompt):
            print(part)
        return
    for profile in [chosen.profile] if chosen.profile else known_profiles():
        for line in datasets.overview(profile):
            print(f"{line.pop('set')} ({line.pop('language')}), {printable(line.pop('source'))}")
            print(
                "  "
                + (
                    line.get("missing")
                    or "; ".join(_spelt(name, value) for name, value in line.items() if value != "")
                ),
                flush=True,
            )


def _writable(out: Path | None) -> None:
    """Raise StudyError, before the work is done, for a file that could not be written after it."""
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise StudyError(f"--out {out} is a folder, or in none: make that, or name another.")


def _spelt(name: str, value: object) -> str:
    if isinstance(value, dict):
        return f"{name}: " + ", ".join(
            f"{key} {value:.1f}" if isinstance(value, float) else f"{value} {key}"
            for key, value in value.items()
        )
    return f"{name} {value}" if isinstance(value, str) else f"{value:,} {name}"


def _bench(chosen: argparse.Namespace) -> None:
    def say(text: str) -> None:
        print(text, flush=True)

    if chosen.device:
        from studylib.bench import device as bench_device

        bench_device.speed(chosen.device, say)
        return None
    if chosen.what == "data":
        from studylib.bench import data as bench_data

        return bench_data.data_speed(say)
    from studylib.app import notebooks
    from studylib.bench import speed
    from studylib.core.filesystem import write_json

    if chosen.out is not None and chosen.out.suffix != ".json":
        raise StudyError(
            f"--out {chosen.out} must be a .json file: the table is written beside it as .md."
        )
    _writable(chosen.out)
    if (
        chosen.out is not None
        and (beside := chosen.out.with_suffix(".md")).exists()
        and not speed.wrote(beside)
    ):
        raise StudyError(
            f"{beside} would be replaced, and is not the table of {chosen.out}: move it away, or"
            " name another file."
        )
    (job,) = [job for job in notebooks.jobs("small") if job.notebook.stem == "capacity_gap"]
    found = speed.speed(job.plan, say)
    table = speed.table(found)
    say("\n" + table)
    if chosen.out is not None:
        write_json(chosen.out, found)
        chosen.out.with_suffix(".md").write_text(table, encoding="utf-8")
