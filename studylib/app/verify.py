"""`study verify`: what a profile shows, redrawn from its rows and compared; and, where the store is
at hand, a random sample of answers asked again.

Redrawing computes no model: a copy of the project holds the rows, and the notebooks are executed
there.
"""

import csv
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pandas as pd

from studylib.app import curves, execution, origins, rows, timing, training_cost, weights
from studylib.app.notebooks import Job
from studylib.core import labels
from studylib.core.errors import StudyError, sentence_of
from studylib.core.filesystem import home, read_sealed
from studylib.core.project import root
from studylib.data import prompts
from studylib.evaluation import question_scores
from studylib.evaluation.answers import best
from studylib.experiments.plans import Asked
from studylib.runs import answers as answering
from studylib.runs import inputs, token_counts
from studylib.store import exports, output_folder
from studylib.store.store import Store

SETS = 3  # of answers, a notebook, at most
SEEDS = 2**32  # by which a sample is drawn
LAST = 1e-9  # of a number in a table: what threads and processors make of its last digits
PICTURES = (".svg", ".png")  # of which the numbers are compared, in the table beside them
# What reading damaged tables and stores raises: pyarrow's own is among them.
DAMAGE = (StudyError, OSError, ValueError, LookupError, AttributeError)
TOLERANCE = 1e-4  # of scores and probabilities of 0 to 1 that are computed again


@dataclass(frozen=True)
class Difference:
    """What was found, in a sentence, whether it is `wrong`, and whether all of it was `seen`."""

    sentence: str
    wrong: bool = True
    seen: bool = True


def verify(
    jobs: Sequence[Job],
    say: Callable[[str], None],
    *,
    sample: int = 20,
    seed: int | None = None,
    store: Store | None = None,
) -> None:
    """Say what differs from what the jobs' notebooks export, and of at least `sample` questions of
    some sets of answers, drawn by `seed` or else by chance, what differs from what is stored.
    Raises StudyError if anything does, or if nothing was exported."""
    if sample < 1:
        raise StudyError(f"--sample {sample} is no number of questions: take 1 or more.")
    drawn_by = secrets.randbelow(SEEDS) if seed is None else seed
    store, random, findings = store or Store(), Random(drawn_by), []
    shown = [job for job in jobs if _files(job.folder)]
    if not shown:
        raise StudyError(
            f"Nothing of {jobs[0].profile!r} is exported, so there is nothing to verify: `study"
            " run` it first."
        )
    with _copied(shown) as place:
        for job in shown:
            say(f"{job.notebook.stem} ({job.profile}): redrawn from its rows …")
            for difference in list(_differences(job, place, store, random, sample)):
                say(f"  {difference.sentence}")
                findings.append(difference)
    say(_count(shown, findings))
    given = "" if seed is None else ", which was given and so could be known beforehand"
    say(f"Drawn by seed {drawn_by}{given}: --seed {drawn_by} again.")
    say(_meaning(sample))
    if wrong := sum(difference.wrong for difference in findings):
        raise StudyError(
            f"What {jobs[0].profile!r} shows does not follow from its rows and the store ({wrong}"
            " found, see above): restore it, or run again."
        )


def _count(jobs: Sequence[Job], findings: Sequence[Difference]) -> str:
    """How many files were looked at and how many differences were found."""
    files = sum(len(_files(job.folder)) for job in jobs)
    unseen = sum(not difference.seen for difference in findings)
    wrong = sum(difference.wrong for difference in findings)
    return (
        f"{files} files looked at{f', {unseen} of them not compared' if unseen else ''};"
        f" differences: {wrong or 'none'}."
    )


def _differences(
    job: Job, place: Path, store: Store, random: Random, sample: int
) -> Iterator[Difference]:
    """What differs in what a notebook exported, redrawn in a copy of the project, and in the models
    and answers that the store has."""
    if not (job.folder / "rows.parquet").exists():
        yield Difference("rows.parquet is missing")
        return
    yield from _redrawn(job, place)
    if store.root.exists():
        yield from map(Difference, weights.differences(job.plan, store))
        for reference in sorted(weights.unknown(job.plan)):
            yield Difference(
                f"{reference} is not fetched: the sizes of its students are not compared with the"
                " plan",
                wrong=False,
            )
    yield from _asked(job, store, random, sample)


def _meaning(sample: int) -> str:
    """What no difference means, and what it does not."""
    caught = (
        f"1 in {share} with {100 * (1 - (1 - 1 / share) ** sample):.0f} %" for share in (10, 100)
    )
    return (
        "No difference means: tables and figures follow from the rows; of the runs that the store"
        " has, models have the planned sizes and their digests, and rows and models agree with the"
        " stored answers that were drawn. It does not mean that models were trained as their"
        " manifests say, that rows without stored answers were ever answered, or that whoever made"
        f" the store is honest. Of forged answers in a set that is drawn, a sample of {sample}"
        f" finds {' and '.join(caught)}."
    )


def _files(folder: Path) -> list[str]:
    """The names of what a notebook exported; none where it did not."""
    return sorted(
        file.name
        for file in (folder.iterdir() if folder.is_dir() else ())
        if file.is_file() and not file.name.startswith(".") and file.name != output_folder.DIGESTS
    )


@contextmanager
def _copied(jobs: Sequence[Job]) -> Iterator[Path]:
    """A copy of the project that shows nothing yet but has the rows of these jobs' profiles."""
    with TemporaryDirectory(prefix="study-verify-") as folder:
        place = Path(folder)
        for entry in root().iterdir():
            if entry.name not in ("figures", "notebooks", ".git"):
                (place / entry.name).symlink_to(entry)
        shutil.copytree(
            root() / "notebooks",
            place / "notebooks",
            ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
        )
        for profile in {job.folder.parent for job in jobs}:
            for file in (file for name in exports.KEPT for file in profile.glob(f"*/{name}")):
                copy = place / "figures" / profile.name / file.parent.name / file.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            for copied in (place / "figures" / profile.name).glob("*/"):
                output_folder.adopt(copied)
        yield place


@contextmanager
def _working(place: Path) -> Iterator[None]:
    """In that folder, with a home that has no runs, so that only rows are shown; what is executed
    there stays to be looked into."""
    before = os.environ.get("STUDY_HOME")
    os.environ["STUDY_HOME"] = str(home() / "verified")
    try:
        with chdir(place):
            yield
    finally:
        os.environ.pop("STUDY_HOME")
        os.environ |= {"STUDY_HOME": before} if before is not None else {}


def _redrawn(job: Job, place: Path) -> Iterator[Difference]:
    """What differs between the files that a notebook exported and those that it writes in the copy
    of the project."""
    shown, redrawn = job.folder, place / "figures" / job.profile / job.notebook.stem
    try:
        with _working(place):
            execution.execute(
                replace(job, notebook=place / "notebooks" / job.notebook.name), compute=False
            )
    except StudyError as error:
        yield Difference(str(error))
        return
    for name in sorted({*_files(shown), *_files(redrawn)}):
        if not (shown / name).exists():
            yield Difference(f"{name} is missing")
        elif (redrawn / name).exists():
            difference = differing(shown / name, redrawn / name)
            if (difference and difference.wrong) or output_folder.as_written(shown / name):
                yield from filter(None, [difference])
            else:
                yield Difference(f"{name} is not what was written (digest differs)")
        elif name in output_folder.listed(shown):
            yield Difference(f"{name} is none of the files that the notebook writes")
        else:
            yield Difference(f"{name} is not the study's: left alone", wrong=False, seen=False)
    if read_sealed(shown / output_folder.DIGESTS) is None:
        yield Difference(f"{output_folder.DIGESTS} is missing, or not what was written")


def differing(shown: Path, redrawn: Path) -> Difference | None:
    """The first place where a file differs from the one that follows from the rows."""
    if shown.read_bytes() == redrawn.read_bytes():
        return None
    try:
        return _unlike(shown, redrawn)
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's own are among them
        return Difference(f"{shown.name} is damaged ({type(error).__name__})")


def _unlike(shown: Path, redrawn: Path) -> Difference | None:
    """The same, of files that can be read and are not the same bytes."""
    if shown.suffix == ".parquet":
        return _table(shown, redrawn)
    if shown.suffix in PICTURES:
        return Difference(
            f"{shown.name}: not compared, another drawing of the numbers of {shown.stem}.csv",
            wrong=False,
            seen=False,
        )
    lines = [file.read_text(encoding="utf-8").splitlines() for file in (shown, redrawn)]
    if shown.suffix == ".csv":
        return _cells(shown.name, lines)
    for number, (line, other) in enumerate(zip(*lines, strict=False), start=1):
        if line != other:
            return Difference(
                f"{shown.name}, line {number}: {line[:120]!r} is shown, {other[:120]!r} follows"
                " from the rows"
            )
    return Difference(
        f"{shown.name} has {len(lines[0])} lines, {len(lines[1])} follow from the rows"
    )


def _table(shown: Path, redrawn: Path) -> Difference | None:
    table, other = pd.read_parquet(shown), pd.read_parquet(redrawn)
    if list(table) != list(other) or len(table) != len(other):
        return Difference(
            f"{shown.name} has other columns or lines ({len(table)}) than the notebook writes"
            f" ({len(other)})"
        )
    unlike = [name for name in table if not table[name].equals(other[name])]
    return (
        Difference(f"{shown.name}: {unlike[0]} is not what the notebook writes") if unlike else None
    )


def _cells(name: str, lines: Sequence[Sequence[str]]) -> Difference | None:
    """The first cell that differs, or that some do in their last digits alone."""
    (heads, *shown), (others, *redrawn) = ([*csv.reader(each)] or [[]] for each in lines)
    if heads != others or list(map(len, shown)) != list(map(len, redrawn)):
        return Difference(
            f"{name} has other columns or lines ({len(shown)}) than follow from the rows"
            f" ({len(redrawn)})"
        )
    for number, (line, other) in enumerate(zip(shown, redrawn, strict=True), start=2):
        for head, a, b in zip(heads, line, other, strict=True):
            if not _close(a, b):
                return Difference(
                    f"{name}, line {number}, {head}: {a or 'nothing'} is shown, {b or 'nothing'}"
                    " follows from the rows"
                )
    return Difference(
        f"{name}: the same numbers but for their last digits (another processor or number of"
        " threads)",
        wrong=False,
    )


def _close(a: str, b: str) -> bool:
    """Whether two cells are the same, but for last digits."""
    try:
        return a == b or isclose(float(a), float(b), rel_tol=LAST)
    except ValueError:
        return False


def _asked(job: Job, store: Store, random: Random, sample: int) -> Iterator[Difference]:
    """What differs in a few sets of answers that are stored, their models and questions at hand."""
    there = [
        asked
        for asked in job.plan.asked
        if rows.is_answered(asked, store) and token_counts.at_hand(asked.answers, "test")
    ]
    if lacking := len(job.plan.asked) - len(there):
        yield Difference(
            f"{lacking} of {len(job.plan.asked)} sets of answers are not at hand: of these only"
            " rows were looked at",
            wrong=False,
        )
    if not there:
        return
    try:
        yield from _fingerprints(job, store)
    except DAMAGE as error:
        yield Difference(
            f"the tables of {job.notebook.stem} cannot be compared with the store"
            f" ({sentence_of(error)})"
        )
        return
    inputs.prepare(job.plan.machine)
    drawn = random.sample(there, min(SETS, len(there)))
    yield Difference(
        f"{len(drawn)} of {len(job.plan.asked)} sets of answers are drawn", wrong=False
    )
    for asked in drawn:
        try:
            wrong = [*_scored(job, asked, store), *_again(asked, store, random, sample)]
        except DAMAGE as error:
            wrong = [Difference(f"{asked.answers.label}: {sentence_of(error)}")]
        yield from wrong or [
            Difference(
                f"{asked.answers.label}: rows, and at least {sample} questions asked again, are as"
                " they were",
                wrong=False,
            )
        ]


def _fingerprints(job: Job, store: Store) -> Iterator[Difference]:
    """Where the tables that are only kept, not computed from rows, differ from what the store has
    of the same runs: what each run is, how it learnt, what it and its answers cost."""
    stored = {
        f"{name}.csv": table
        for name, table in exports.timed({"runs": origins.origins(job.plan, store)}).items()
    }
    if any(store.result(run) is not None for run, _ in job.plan.trained):
        stored["learning.csv"] = curves.curves(job.plan, store)
    if job.plan.costs:
        stored["timing.csv"] = timing.timing(
            job.plan, pd.read_parquet(job.folder / "rows.parquet"), store
        )
    if (job.folder / "costs.csv").exists():
        stored["costs.csv"] = training_cost.of(
            job.plan, pd.read_parquet(job.folder / "rows.parquet"), store
        )
    for name, table in stored.items():
        if (job.folder / name).exists():
            yield from _kept(job, name, table)


def _kept(job: Job, name: str, stored: pd.DataFrame) -> Iterator[Difference]:
    """Where a kept table differs in lines of the runs that the store has, number for number."""
    with TemporaryDirectory() as place:
        exports.save(stored, Path(place) / name)
        by_run = exports.parts(Path(place) / name)
    shown = exports.parts(job.folder / name)
    for planned, lines in by_run.items():
        there = shown.get(planned)
        same = [column for column in lines if column != "label"]
        if there is None or len(there) != len(lines) or not set(same) <= set(there):
            yield Difference(f"{name}: not the lines or columns that the store has of {planned}")
        elif unlike := [
            column
            for column in same
            if not all(map(_close, map(str, there[column]), map(str, lines[column])))
        ]:
            yield Difference(
                f"{name}, {unlike[0]}: {there[unlike[0]].iloc[0]} is shown,"
                f" {lines[unlike[0]].iloc[0]} is stored ({planned})"
            )


def _scored(job: Job, asked: Asked, store: Store) -> Iterator[Difference]:
    """Where rows differ from what the stored answers score."""
    every = pd.read_parquet(job.folder / "rows.parquet")
    shown, stored = (
        table.set_index("question").sort_index()
        for table in (
            every[every.planned == asked.planned],
            rows.rows(replace(job.plan, asked=[asked], trained=[]), store),
        )
    )
    if list(shown.index) != list(stored.index):
        yield Difference(
            f"{asked.answers.label}: rows.parquet has rows of other questions than were answered"
        )
        return
    numbers = [*labels.METRICS, *labels.MENDED, *question_scores.BESIDE]
    unlike = (shown[numbers] - stored[numbers]).abs() > TOLERANCE
    unlike |= shown[numbers].isna() != stored[numbers].isna()
    for name in (name for name in stored if name not in numbers):
        unlike[name] = shown[name].map(str) != stored[name].map(str)
    for question, column in unlike.stack()[lambda wrong: wrong].index[:1]:
        yield Difference(
            f"{asked.answers.label}, question {question}, {column}: {shown.loc[question, column]}"
            f" in rows.parquet, {stored.loc[question, column]} by the stored answer"
        )


def _again(asked: Asked, store: Store, random: Random, sample: int) -> Iterator[Difference]:
    """Where answers differ from the stored ones when some contexts with all their questions are
    asked again."""
    run = asked.answers
    stored = store.read(run, "answers.json")
    model, tokenizer = inputs.load(store, run.needs["model"])
    built = inputs.prompted(run, "test", tokenizer, model.config)
    drawn: set[str] = set()
    for prompt in random.sample(built, len(built)):
        if len(drawn) < sample:
            drawn |= {branch.question.id for branch in prompt.branches}
    # all windows of a context
    some = [prompt for prompt in built if prompt.branches[0].question.id in drawn]
    longest = prompts.longest_answer(
        branch.target for prompt in built for branch in prompt.branches
    )
    answers = answering.answered(run, model, tokenizer, some, longest=longest)
    for question, now in best(answers).items():
        before = stored[question]
        if now.text != before["text"]:
            yield Difference(
                f"{run.label}, question {question}: {before['text']!r} is stored, the model says"
                f" {now.text!r} (the first choice led by {now.margin:.1g})"
            )
        elif abs(now.probability - before["probability"]) > TOLERANCE:
            yield Difference(
                f"{run.label}, question {question}: probability {before['probability']:.6f} is"
                f" stored, now {now.probability:.6f}"
            )
