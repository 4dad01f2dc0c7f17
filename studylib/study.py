"""Plans, and the few verbs a notebook calls: plan, complete, then read rows and curves.

plan = study.capacity_gap(families={"gpt_neox": "tiny:gpt_neox"}, ...)
study.complete(plan)
rows = study.rows(plan)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from studylib import data, kinds, objectives, prompts, scoring, training
from studylib.errors import StudyError
from studylib.progress import Progress
from studylib.project import root
from studylib.runs import Input, Run, Store, digest

IDENTITY = [
    "family",
    "teacher",
    "student",
    "role",
    "start",
    "targets",
    "objective",
    "trained",
    "asked",
    "test_set",
    "language",
    "seed",
    "steps",
]
COUNTS = ["parameters_total", "parameters_nonembedding"]


@dataclass
class Plan:
    """What an experiment needs: sets of answers with what each is called in tables, and trained models with theirs."""

    threads: int
    answers: list[tuple[Run, dict]] = field(default_factory=list)
    trained: list[tuple[Run, dict]] = field(default_factory=list)

    def add(self, model: Run, called: dict, test_sets: Sequence[Input], pool: Input, asked: Sequence[str]) -> None:
        """A trained model and its answers on every test set in every way of asking."""
        self.trained.append((model, called))
        for test, mode in product(test_sets, asked):
            run = kinds.answers(model, test, pool, asked=mode, seed=called["seed"], label=f"{model.label}: {test.label} {mode}")
            more = {"asked": mode, "test_set": test.label, "language": data.language(test.value)}
            self.answers.append((run, called | more))

    @property
    def runs(self) -> list[Run]:
        """Every run, each once, in an order in which they can be made."""
        return kinds.each_run([run for run, _ in self.answers])


def capacity_gap(
    *,
    families: Mapping[str, str],
    train: Mapping,
    dev: Mapping,
    tests: Mapping[str, Mapping],
    trained: str,
    asked: Sequence[str],
    seeds: Sequence[int],
    depths: Sequence[int],
    twins: Sequence[int],
    raw_starts: Sequence[int],
    objective: Mapping[str, float],
    layer_packs: int,
    heal_packs: int,
    teacher_steps: int,
    teacher_rate: float,
    student_steps: int,
    student_rate: float,
    packs: int,
    micro: int,
    precision: str,
    evaluations: int,
    threads: int,
) -> Plan:
    """How much of its teacher a student of each depth keeps: per family and seed a tuned teacher, students
    taught by it (`depths`), twins on gold answers (`twins`), and both from the raw model (`raw_starts`).
    Raises StudyError for values that cannot be.
    """
    _check_lists(families=list(families), tests=list(tests), asked=asked, seeds=seeds, depths=depths, twins=twins, raw_starts=raw_starts)
    counts = {"threads": threads, "layer_packs": layer_packs, "heal_packs": heal_packs, "evaluations": evaluations}
    _check_choices(families, [trained, *asked], objective, counts)
    teacher_rate, student_rate = float(teacher_rate), float(student_rate)  # papermill injects 1e-3 as text
    for steps, rate, seed in product((teacher_steps, student_steps), (teacher_rate, student_rate), seeds):
        training.Recipe(steps, packs, rate, seed, micro, precision)
    plan, pool, dev_set = Plan(threads), kinds.dataset("train", train), kinds.dataset("dev", dev)
    test_sets = [kinds.dataset(name, test) for name, test in tests.items()]
    for described in (dev, *tests.values()):
        scoring.usual_rules(data.language(described))
    arms = {("tuned", "teacher"): depths, ("tuned", "gold"): twins, ("raw", "teacher"): raw_starts, ("raw", "gold"): raw_starts}

    for (family, reference), seed in product(families.items(), seeds):
        label, raw = f"{family} s{seed}", kinds.raw_model(reference)
        setting = kinds.Setting(pool, dev_set, trained, seed, packs, micro, precision, evaluations)
        tuned = kinds.teacher(raw, setting, steps=teacher_steps, rate=teacher_rate, label=label)
        order = kinds.layers(tuned, setting, packs=layer_packs, label=label)
        lesson = kinds.Lesson(tuned, kinds.states(tuned, setting, label=label), order)
        called = {"family": family, "teacher": family, "student": "", "role": "teacher", "start": "raw", "targets": "gold"}
        called |= {"objective": objectives.title(kinds.GOLD), "trained": trained, "seed": seed, "steps": teacher_steps}
        plan.add(tuned, called, test_sets, pool, asked)

        cuts = {  # a student and its twin share theirs
            (start, depth): kinds.cut(
                begin, lesson, setting, depth=depth, packs=heal_packs, label=f"{label} {depth} layers, {start} start, cut"
            )
            for start, begin, wanted in (("tuned", tuned, depths), ("raw", raw, raw_starts))
            for depth in wanted
        }
        for (start, targets), wanted in arms.items():
            weights = objective if targets == "teacher" else kinds.GOLD
            about = {"role": "student" if targets == "teacher" else "twin", "start": start, "targets": targets}
            about |= {"objective": objectives.title(weights), "steps": student_steps}
            for depth in sorted(wanted, reverse=True):
                named = f"{label} {depth} layers, {targets}, {start} start"
                less = cuts[start, depth]
                one = kinds.student(less, lesson, setting, weights=weights, steps=student_steps, rate=student_rate, label=named)
                plan.add(one, called | about | {"student": f"{family}-{depth}"}, test_sets, pool, asked)
    return plan


EXPERIMENTS = {"capacity_gap": capacity_gap}


def _check_lists(**lists: Sequence) -> None:
    """Raise StudyError for a list that is empty where it must not be, names something twice, or an impossible depth."""
    for name, chosen in lists.items():
        if not chosen and name not in ("twins", "raw_starts"):
            raise StudyError(f"{name} is empty: name at least one.")
        if repeated := [value for value in chosen if list(chosen).count(value) > 1]:
            raise StudyError(f"{name} names {repeated[0]!r} twice.")
    for name in ("depths", "twins", "raw_starts"):
        for depth in lists[name]:
            if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
                raise StudyError(f"{name}: {depth!r} is no number of layers.")
            if depth not in lists["depths"]:
                raise StudyError(f"{name} names {depth} layers, which `depths` does not: add it there.")


def _check_choices(families: Mapping, modes: Sequence[str], objective: Mapping[str, float], counts: Mapping[str, int]) -> None:
    """Raise StudyError for a model that is no reference, an unknown prompting or loss, or a count that cannot be."""
    for family, reference in families.items():
        if not isinstance(family, str) or not isinstance(reference, str):
            raise StudyError(f"families must map names to model references, not {family!r} to {reference!r}.")
    for mode in modes:
        if mode not in prompts.MODES:
            raise StudyError(f"prompting {mode!r} is unknown: use {' or '.join(prompts.MODES)}.")
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < (name != "evaluations"):
            raise StudyError(f"{name} must be a whole number of at least {int(name != 'evaluations')}, not {count!r}.")
    objectives.check(objective)


def complete(plan: Plan, store: Store | None = None) -> None:
    """Make whatever runs of the plan are missing, one after the other, with a bar each."""
    store = store or Store()
    kinds.use_threads(plan.threads)
    maker = kinds.make(store, Progress())
    for run in plan.runs:
        if store.result(run) is None:
            store.complete(run, maker)


def rows(plan: Plan, store: Store | None = None) -> pd.DataFrame:
    """Per-question rows of all answers that are there: identity, parameter counts, scores of 0 to 1, digest of the answer."""
    store, frames = store or Store(), []
    for run, called in plan.answers:
        if store.result(run) is None:
            continue
        said = json.loads(store.path(run, "answers.json").read_text(encoding="utf-8"))
        counts = store.result(run.needs["model"])["facts"]["parameters"]
        table = [
            {
                "question": q.id,
                "article": q.article,
                **scoring.score(said[q.id], [text for text, _ in q.answers], language=q.language, rules=scoring.usual_rules(q.language)),
                "answer": digest(said[q.id])[:16],
            }
            for q in kinds.questions(run.needs["test"])
        ]
        fixed = called | {
            "run": store.key(run),
            "parameters_total": counts["total"],
            "parameters_nonembedding": counts["nonembedding"],
        }
        frames.append(pd.DataFrame(table).assign(**fixed))
    if not frames:
        raise StudyError("No answers are there yet: complete the plan first.")
    return pd.concat(frames, ignore_index=True)[[*IDENTITY, *COUNTS, "run", "article", "question", *scoring.METRICS, "answer"]]


def results(table: pd.DataFrame) -> pd.DataFrame:
    """Tidy results: a line per run, test set and metric, values of 0 to 100."""
    keys = [*IDENTITY, *COUNTS, "run"]
    long = table.melt(id_vars=keys, value_vars=list(scoring.METRICS), var_name="metric")
    tidy = long.groupby([*keys, "metric"], sort=False)["value"].agg(["mean", "size"]).reset_index()
    tidy["value"] = (100 * tidy.pop("mean")).round(4)
    return tidy.rename(columns={"size": "n"})[[*IDENTITY, "metric", "value", "n", "run", *COUNTS]]


def curves(plan: Plan, store: Store | None = None) -> pd.DataFrame:
    """The loss of every step of every trained model, and the dev F1 where it was measured."""
    store, frames = store or Store(), []
    for run, called in plan.trained:
        if store.result(run) is not None:
            curve = json.loads(store.path(run, "curve.json").read_text())
            fixed = {key: called[key] for key in ("family", "student", "role", "start", "targets", "seed")}
            frames.append(pd.DataFrame(curve).assign(**fixed, run=store.key(run)))
    return pd.concat(frames, ignore_index=True)


def overview(plan: Plan, store: Store | None = None) -> pd.DataFrame:
    """Every run of the plan: kind, what it is, whether it is done, and its key once that is known."""
    store = store or Store()
    return pd.DataFrame(
        [{"kind": run.kind, "run": run.label, "state": store.state(run)[0], "key": store.key(run) or ""} for run in plan.runs]
    )


def export(profile: str, notebook: str, table: pd.DataFrame, kept: pd.DataFrame, learned: pd.DataFrame) -> Path:
    """Write rows, their results, what is kept (`comparison.compare`) as table and figure, and curves into `figures/<profile>/<notebook>/`; return that folder."""
    from studylib import figures  # slow to import, and planning draws nothing

    folder = root() / "figures" / profile / notebook
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".draft-") as place:
        draft = Path(place)
        table.to_parquet(draft / "rows.parquet", index=False)
        results(table).to_csv(draft / "results.csv", index=False)
        learned.to_csv(draft / "learning.csv", index=False)
        (draft / "table.md").write_text(figures.table(kept), encoding="utf-8")
        figures.save(figures.retention_figure(kept), draft, "retention")
        figures.save(figures.learning_figure(learned), draft, "learning")
        for file in draft.iterdir():
            file.replace(folder / file.name)
    return folder
