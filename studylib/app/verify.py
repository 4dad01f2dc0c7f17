"""`study verify`: what a profile shows, redrawn from its rows and compared; and, where the store is
at hand, a random sample of answers asked again.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pandas as pd

from studylib.app import curves, origins, redrawing, rows, timing, training_cost, weights
from studylib.app.notebooks import Job
from studylib.app.redrawing import Difference
from studylib.core import labels
from studylib.core.errors import StudyError, sentence_of
from studylib.data import prompts
from studylib.evaluation import question_scores
from studylib.evaluation.answers import best
from studylib.experiments.plans import Asked
from studylib.runs import answers as answering
from studylib.runs import inputs, token_counts
from studylib.store import exports
from studylib.store.store import Store

SETS = 3  # of answers, a notebook, at most
SEEDS = 2**32  # by which a sample is drawn
# What reading damaged tables and stores raises: pyarrow's own is among them.
DAMAGE = (StudyError, OSError, ValueError, LookupError, AttributeError)
TOLERANCE = 1e-4  # of scores and probabilities of 0 to 1 that are computed again


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
    store, random, findings = store or Store(), Random(drawn_by), list[Difference]()
    shown = [job for job in jobs if redrawing.files(job.folder)]
    if not shown:
        raise StudyError(
            f"Nothing of {jobs[0].profile!r} is exported, so there is nothing to verify: `study"
            " run` it first."
        )
    with redrawing.copied(shown) as place:
        for job in shown:
            say(f"{job.notebook.stem} ({job.profile}): redrawn from its rows …")
            for difference in list(_differences(job, place, store, random, sample)):
                say(f"  {difference.sentence}")
                findings.append(difference)
    files = sum(len(redrawing.files(job.folder)) for job in shown)
    unseen = sum(not difference.seen for difference in findings)
    wrong = sum(difference.wrong for difference in findings)
    say(
        f"{files} files looked at{f', {unseen} of them not compared' if unseen else ''};"
        f" differences: {wrong or 'none'}."
    )
    say(_meaning(sample, drawn_by, seed is not None))
    if wrong:
        raise StudyError(
            f"What {jobs[0].profile!r} shows does not follow from its rows and the store ({wrong}"
            " found, see above): restore it, or run again."
        )


def _differences(
    job: Job, place: Path, store: Store, random: Random, sample: int
) -> Iterator[Difference]:
    """What differs in what a notebook exported, redrawn in a copy of the project, and in the models
    and answers that the store has."""
    if not (job.folder / "rows.parquet").exists():
        yield Difference("rows.parquet is missing")
        return
    yield from redrawing.redrawn(job, place)
    if store.root.exists():
        yield from map(Difference, weights.differences(job.plan, store))
        for reference in sorted(weights.unknown(job.plan)):
            yield Difference(
                f"{reference} is not fetched: the sizes of its students are not compared with the"
                " plan",
                wrong=False,
            )
    yield from _asked(job, store, random, sample)


def _meaning(sample: int, seed: int, is_given: bool) -> str:
    """How the sample was drawn; what no difference means, and what it does not."""
    beforehand = ", which was given and so could be known beforehand" if is_given else ""
    caught = (
        f"1 in {share} with {100 * (1 - (1 - 1 / share) ** sample):.0f} %" for share in (10, 100)
    )
    return (
        f"Drawn by seed {seed}{beforehand}: --seed {seed} again.\n"
        "No difference means: tables and figures follow from the rows; of the runs that the store"
        " has, models have the planned sizes and their digests, and rows and models agree with the"
        " stored answers that were drawn. It does not mean that models were trained as their"
        " manifests say, that rows without stored answers were ever answered, or that whoever made"
        f" the store is honest. Of forged answers in a set that is drawn, a sample of {sample}"
        f" finds {' and '.join(caught)}."
    )


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
    table = pd.read_parquet(job.folder / "rows.parquet")
    stored = exports.timed(
        {"runs": origins.origins(job.plan, store), "learning": curves.curves(job.plan, store)}
    )
    for name, cost in (("timing", timing.timing), ("costs", training_cost.of)):
        if (job.folder / f"{name}.csv").exists():
            stored[name] = cost(job.plan, table, store)
    for name, part in stored.items():
        if (job.folder / f"{name}.csv").exists():
            yield from _kept(job, f"{name}.csv", part)


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
            if not all(map(redrawing.close, map(str, there[column]), map(str, lines[column])))
        ]:
            yield Difference(
                f"{name}, {unlike[0]}: {there[unlike[0]].iloc[0]} is shown,"
                f" {lines[unlike[0]].iloc[0]} is stored ({planned})"
            )


def _scored(job: Job, asked: Asked, store: Store) -> Iterator[Difference]:
    """Where rows differ from what the stored answers score."""
    shown, stored = (
        table.set_index("question").sort_index()
        for table in (
            pd.read_parquet(
                job.folder / "rows.parquet", filters=[("planned", "==", asked.planned)]
            ),
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
