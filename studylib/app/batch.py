"""All notebooks of a profile: what is missing and how long that takes, then the runs, then the
notebooks.

run("tiny"); print(*status("tiny"), sep="\\n")
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future

from studylib.app import completion, notebooks, run_states, time_budget
from studylib.app import plan as app_plan
from studylib.app.notebooks import Job
from studylib.core import filesystem
from studylib.core.errors import StudyError
from studylib.core.escaping import printable
from studylib.core.progress import say, spoken
from studylib.engines import engines
from studylib.experiments.plans import Plan
from studylib.runs import inputs
from studylib.store.run import Run
from studylib.store.store import Store


def run(profile: str, engine: str | None, only: str | None, compute: bool) -> None:
    """Complete what is missing and execute the notebooks; where there are exported rows of runs
    that the store does not have, only show these unless it is to `compute`. Raises StudyError, when
    all else is done, for notebooks that failed."""
    started, failed = time.monotonic(), []
    jobs = notebooks.jobs(profile, engine, only)
    for job in jobs:
        engines.check(job.plan.machine)
    showing = not compute and any(
        run_states.lacking(job.folder) or run_states.superseded(job.plan, job.folder)
        for job in jobs
    )
    _announce(jobs, showing)
    from studylib.app import execution  # and with it Jupyter

    with engines.Pools() as pools, execution.side_by_side() as begin:
        if showing:
            jobs = [job for job in jobs if run_states.showable(job.plan, job.folder)]
        shown = [begin(job, False) for job in jobs if showing]  # at once: nothing is computed
        for number, job in enumerate(jobs):
            try:
                if showing:
                    say(f"Executing {job.notebook.name} …")
                    shown[number].result()
                else:
                    _complete(job, pools, begin)
                _conclude(job)
            except filesystem.NoRoom:
                raise  # there is none for the others, either
            except StudyError as error:
                say(f"{job.notebook.name} is left out: {error}")
                failed.append(f"{job.notebook.stem}: {error}")
                pools.leave()  # which may be what failed
    place = filesystem.home()
    say(
        f"Done in {spoken(time.monotonic() - started)};"
        f" {filesystem.size(place) / 1e6:.0f} MB in {place}."
    )
    if failed:
        raise StudyError(" ".join(failed))


def _announce(jobs: Sequence[Job], showing: bool) -> None:
    """Say what is missing, what computing it takes and what the data hold, of all notebooks before
    the first one begins."""
    store, seconds, lines, counted = Store().snapshot(), 0.0, set[str](), set[str]()
    for job in jobs:
        missing = [run for run in job.plan.runs if store.result(run) is None]
        new = [run for run in missing if run.planned not in counted]  # none before it needs these
        counted |= {run.planned for run in missing}
        kinds = f" ({_counts(run.kind for run in missing)})" if missing else ""
        say(f"{job}: {len(job.plan.runs)} runs, {len(missing)} to compute{kinds}.")
        if showing:
            say(
                f"Nothing is computed: shown is what was exported to {job.folder}. With --compute"
                " what is missing is made."
                if run_states.showable(job.plan, job.folder)
                else "Nothing of it was exported, and nothing is computed: --compute makes it."
            )
        elif missing:
            for line in needed(job.plan, missing, new):
                if line not in lines:
                    say(line)
                lines.add(line)
            seconds += time_budget.seconds(job.plan, new)
    if seconds:
        say(time_budget.sentence(seconds))
    from studylib.analysis import fonts  # and with it matplotlib, which only drawing needs

    if advice := fonts.advice("".join(sorted({name for job in jobs for name in job.plan.names}))):
        say(advice)


def _counts(names: Iterable[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).items())


def needed(plan: Plan, missing: Sequence[Run], new: Sequence[Run]) -> Iterator[str]:
    """What the missing runs need: downloads, data sets, and memory for the `new` ones among
    them."""
    if megabytes := time_budget.download(plan):
        yield f"To download: {megabytes} MB, into {filesystem.home() / 'downloads'}."
    inputs.check(missing)
    yield from time_budget.datasets(plan)
    if plan.machine.engine == "local":
        yield from app_plan.too_large(plan, new)


def _complete(job: Job, pools: engines.Pools, begin: Callable[[Job, bool], Future]) -> None:
    """Make the runs of one notebook and execute it, unless that was done before and nothing has
    changed since."""
    completion.complete(job.plan, folder=job.folder, pools=pools)
    if job.is_current():
        say(f"{job.notebook.name} was executed before, and nothing has changed since.")
    else:
        say(f"Executing {job.notebook.name} …")
        begin(job, True).result()


def _conclude(job: Job) -> None:
    """Say what a notebook found, and where that is."""
    if (answer := job.folder / "answer.md").exists():
        say(answer.read_text(encoding="utf-8").strip())
    say(f"Tables and figures: {job.folder}; executed notebook: {job.executed}")


def status(profile: str) -> Iterator[str]:
    """Every run of a profile with its state, and how long what is neither done nor exported takes;
    what several notebooks need is counted once."""
    store, total, counted, exported = Store().snapshot(), 0.0, set[str](), False
    for job in notebooks.jobs(profile):
        states = run_states.states(job.plan, job.folder, store)
        new = [run for run in run_states.to_compute(states) if run.planned not in counted]
        exported |= any(state == "exported" for _, state, _ in states)
        yield f"{job}: {_counts(state for _, state, _ in states)}"
        for run, state, why in states:
            reason = f" ({printable(why)})" if why else ""
            yield f"  {state:8} {(store.key(run) or '')[:12]:12} {run.kind:8} {run.label}{reason}"
        if new and time_budget.download(job.plan):
            yield "  how long what is missing takes is known when its data are fetched"
        elif new:
            counted |= {run.planned for run in new}
            seconds = time_budget.seconds(job.plan, new, store)
            left = f"  about {spoken(seconds)} of computing are left on this machine"
            yield f"{left}, beside what stands above" if total else left
            total += seconds
    if total:
        yield f"In all about {spoken(total)} of computing are left on this machine."
    if exported:
        yield "What was exported is not counted: `study run --compute` makes that, too."
