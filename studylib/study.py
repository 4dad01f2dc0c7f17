"""Plans, and the few verbs a notebook calls: plan, complete, then read rows and curves.

plan = study.capacity_gap(families={"gpt_neox": "tiny:gpt_neox"}, ...)
study.complete(plan)
rows = study.rows(plan)
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from studylib import cutting, data, kinds, makers, objectives, prompts, scoring, sources, training
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
BESIDE = ["probability", "agreement", "loyalty"]


@dataclass(frozen=True)
class Asked:
    """A model's answers to one test set in one mode, with what they are called in tables; for a teacher its states there,
    for a student what it is compared with."""

    called: dict
    answers: Run
    states: Run | None = None
    teacher: "Asked | None" = None
    loyalty: Run | None = None


@dataclass
class Plan:
    """What an experiment needs: training, dev and test questions, every trained model with what it is called in tables, and its answers."""

    threads: int
    train: Input
    dev: Input
    tests: list[Input]
    trained: list[tuple[Run, dict]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def teacher(self, model: Run, called: dict, modes: Sequence[str]) -> list[Asked]:
        """Add a teacher, asked on every test set in every mode; return what its students are to be compared with."""
        self.trained.append((model, called))
        added = []
        for test, mode in product(self.tests, modes):
            common = dict(asked=mode, seed=called["seed"], label=f"{model.label}: {test.label} {mode}")
            states = kinds.states_on(model, test, self.train, **common | {"label": f"{common['label']}, states"})
            added.append(Asked(_named(called, test, mode), kinds.answers(model, test, self.train, **common), states))
        self.asked += added
        return added

    def student(self, model: Run, called: dict, teacher: Sequence[Asked]) -> None:
        """Add a student or twin, asked what its teacher was asked."""
        self.trained.append((model, called))
        for theirs in teacher:
            test, mode = theirs.answers.needs["test"], theirs.called["asked"]
            label = f"{model.label}: {test.label} {mode}"
            own = kinds.answers(model, test, self.train, asked=mode, seed=called["seed"], label=label)
            loyal = kinds.loyalty(model, theirs.states, label=f"{label}, loyalty")
            self.asked.append(Asked(_named(called, test, mode), own, teacher=theirs, loyalty=loyal))

    @property
    def runs(self) -> list[Run]:
        """Every run, each once, in an order in which they can be made."""
        return kinds.each_run([run for one in self.asked for run in (one.answers, one.loyalty) if run is not None])


def _named(called: dict, test: Input, mode: str) -> dict:
    return called | {"asked": mode, "test_set": test.label}


def capacity_gap(
    *,
    families: Mapping[str, str],
    train: Mapping,
    dev: Mapping,
    tests: Mapping[str, Mapping],
    xquad: str,
    xquad_paragraphs: int,
    trained: str,
    asked: Sequence[str],
    seeds: Sequence[int],
    sizes: Sequence[int | str],
    twins: Sequence[int | str],
    raw_starts: Sequence[int | str],
    stages: Sequence[Mapping],
    learn: str,
    layer_packs: int,
    heal_packs: int,
    teacher_steps: int,
    teacher_rate: float,
    rates: Sequence[float],
    search_steps: int,
    packs: int,
    micro: int,
    precision: str,
    evaluations: int,
    threads: int,
) -> Plan:
    """How much of its teacher a student of each size keeps: per family and seed a tuned teacher, students
    taught by it (`sizes`, as `cutting.size` reads them), twins on gold answers (`twins`), and both from the raw model (`raw_starts`).
    Raises StudyError for values that cannot be.
    """
    tests = {**tests, **sources.xquad(xquad, xquad_paragraphs)}
    _check_lists(
        families=list(families), tests=list(tests), asked=asked, seeds=seeds, sizes=sizes, twins=twins, raw_starts=raw_starts, rates=rates
    )
    counts = {"threads": threads, "layer_packs": layer_packs, "heal_packs": heal_packs, "evaluations": evaluations}
    counts |= {"teacher_steps": teacher_steps, "search_steps": search_steps}
    _check_choices(families, [trained, *asked], learn, counts)
    teacher_rate, rates = float(teacher_rate), [float(rate) for rate in rates]  # papermill injects 1e-3 as text
    for rate, seed in product((teacher_rate, *rates), seeds):
        training.Recipe(packs, rate, seed, micro, precision)
    pool, dev_set = kinds.dataset("train", train), kinds.dataset("dev", dev)
    plan = Plan(threads, pool, dev_set, [kinds.dataset(name, test) for name, test in tests.items()])
    for described in (dev, *tests.values()):
        for language in sources.languages(described):
            scoring.usual_rules(language)
    arms = _arms(stages, learn, sizes=sizes, twins=twins, raw_starts=raw_starts)
    for (family, reference), seed in product(families.items(), seeds):
        label, raw = f"{family} s{seed}", kinds.raw_model(reference)
        setting = kinds.Setting(pool, dev_set, trained, seed, packs, micro, precision, evaluations)
        tuned = kinds.teacher(raw, setting, steps=teacher_steps, rate=teacher_rate, label=label)
        lesson = kinds.Lesson(tuned, kinds.layers(tuned, setting, packs=layer_packs, label=label), setting, label)
        named = {"family": family, "teacher": family, "student": "", "trained": trained, "seed": seed}
        own = {"role": "teacher", "start": "raw", "targets": "gold"} | _taught(objectives.gold(teacher_steps))
        theirs = plan.teacher(tuned, named | own, asked)
        for arm, written, one in _students(arms, raw, lesson, setting, heal_packs=heal_packs, rates=rates, search_steps=search_steps):
            plan.student(one, named | arm.called(written) | {"student": f"{family}-{written}"}, theirs)
    return plan


@dataclass(frozen=True)
class Arm:
    """Models that start alike, `tuned` or `raw`, and learn alike, from the `teacher` or from `gold` alone, in these sizes."""

    start: str
    targets: str
    sizes: Sequence[int | str]
    stages: Sequence[Mapping]
    learn: str

    def called(self, written: int | str) -> dict:
        """What one of them is called in tables; `steps` are those of all students that it was cut from, too."""
        about = {"role": "student" if self.targets == "teacher" else "twin", "start": self.start, "targets": self.targets}
        taught = _taught(self.stages, self.learn)
        return about | taught | {"steps": cutting.size(written).stages * taught["steps"]}


def _taught(stages: Sequence[Mapping], learn: str = "gold") -> dict:
    """An objective in tables."""
    return {"objective": kinds.objective_title(stages, learn), "steps": objectives.steps(objectives.parse(stages))}


def _arms(stages: Sequence[Mapping], learn: str, *, sizes: Sequence, twins: Sequence, raw_starts: Sequence) -> list[Arm]:
    """Students and their twins, from the tuned teacher and from the raw model.

    What a twin lacks are the teacher's distributions and words, not its choice of questions.
    """
    taught = {"stages": stages, "learn": learn}
    twin = {"stages": objectives.gold(objectives.steps(objectives.parse(stages))), "learn": learn if learn == kinds.RIGHT else "gold"}
    chosen = {"tuned": (sizes, twins), "raw": (raw_starts, raw_starts)}
    pairs = ((Arm(start, "teacher", own, **taught), Arm(start, "gold", beside, **twin)) for start, (own, beside) in chosen.items())
    return [arm for pair in pairs for arm in pair]


def _students(
    arms: Sequence[Arm], raw: Input, lesson: kinds.Lesson, setting: kinds.Setting, *, heal_packs: int, **search: object
) -> Iterator[tuple[Arm, int | str, Run]]:
    """The runs of all arms, with their arm and size. A student and its twin are trained from one and the same cut."""
    cuts: dict[tuple, Run] = {}
    begins: dict[tuple, Run | Input] = {("tuned", ""): lesson.teacher, ("raw", ""): raw}
    for arm in arms:
        for written in arm.sizes:
            size = cutting.size(written)
            label = f"{lesson.label} {size.title}, {arm.start} start"
            if (arm.start, written) not in cuts:
                begin = begins[arm.start, size.cut_from]
                cuts[arm.start, written] = kinds.cut(begin, lesson, setting, size=size, packs=heal_packs, label=f"{label}, cut")
            taught = dict(stages=arm.stages, learn=arm.learn, label=f"{label}, {arm.targets}")
            one = kinds.student(cuts[arm.start, written], lesson, setting, **taught, **search)
            if arm.targets == "teacher":
                begins[arm.start, str(written)] = one
            yield arm, written, one


EXPERIMENTS = {"capacity_gap": capacity_gap}


def _check_lists(**lists: Sequence) -> None:
    """Raise StudyError for a list that is empty where it must not be, names something twice, or an impossible size."""
    for name, chosen in lists.items():
        if not chosen and name not in ("twins", "raw_starts"):
            raise StudyError(f"{name} is empty: name at least one.")
        if repeated := [value for value in chosen if list(chosen).count(value) > 1]:
            raise StudyError(f"{name} names {repeated[0]!r} twice.")
    for name in ("sizes", "twins", "raw_starts"):
        if len({cutting.size(size) for size in lists[name]}) < len(lists[name]):
            raise StudyError(f"{name} names a size twice.")
        for number, written in enumerate(lists[name]):
            if written not in lists["sizes"]:
                raise StudyError(f"{name} names {written}, which `sizes` does not: add it there.")
            before = cutting.size(written).cut_from
            if before and before not in map(str, lists[name][:number]) and name != "twins":
                raise StudyError(f"{name}: {written} is cut from the student of {before}: name that before it.")
    for name in lists["tests"]:
        if not isinstance(name, str) or name in ("train", "dev"):
            raise StudyError(f"tests names a set {name!r}: call it by another word than train and dev.")


def _check_choices(families: Mapping, modes: Sequence[str], learn: str, counts: Mapping[str, int]) -> None:
    """Raise StudyError for a model that is no reference, an unknown prompting or text to learn, or a count that cannot be."""
    for family, reference in families.items():
        if not isinstance(family, str) or not isinstance(reference, str):
            raise StudyError(f"families must map names to model references, not {family!r} to {reference!r}.")
    for mode in modes:
        prompts.check(mode)
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < (name != "evaluations"):
            raise StudyError(f"{name} must be a whole number of at least {int(name != 'evaluations')}, not {count!r}.")
    if learn not in kinds.LEARN:
        raise StudyError(f"learn must be {', '.join(kinds.LEARN[:-1])} or {kinds.LEARN[-1]}, not {learn!r}.")


def complete(plan: Plan, store: Store | None = None) -> None:
    """Make whatever runs of the plan are missing, one after the other, with a bar each."""
    store = store or Store()
    makers.use_threads(plan.threads)
    maker = makers.make(store, Progress())
    makers.rehearse(run for run in plan.runs if store.result(run) is None)
    for run in plan.runs:
        if store.result(run) is None:
            store.complete(run, maker)


def rows(plan: Plan, store: Store | None = None) -> pd.DataFrame:
    """Per-question rows of all answers that are there: identity, parameter counts, scores of 0 to 1, digest of the answer.

    `probability` is the model's of its answer; `agreement` and `loyalty` (to the teacher) are missing in a teacher's rows.
    """
    store, frames = store or Store(), []
    for one in plan.asked:
        if store.result(one.answers) is not None and (one.loyalty is None or store.result(one.loyalty) is not None):
            counts = store.result(one.answers.needs["model"])["facts"]["parameters"]
            fixed = one.called | {f"parameters_{name}": count for name, count in counts.items()} | {"run": store.key(one.answers)}
            frames.append(pd.DataFrame(_scored(one, store)).assign(**fixed))
    if not frames:
        raise StudyError("No answers are there yet: complete the plan first.")
    table = pd.concat(frames, ignore_index=True)
    return table[[*IDENTITY, *COUNTS, "run", "article", "question", *scoring.METRICS, *scoring.MENDED, *BESIDE, "answer"]]


def _scored(one: Asked, store: Store) -> Iterator[dict]:
    """A row per question of one set of answers."""
    said, theirs, loyal = _read(store, one.answers), None, None
    test = one.answers.needs["test"]
    if one.teacher is not None:
        theirs, loyal = _read(store, one.teacher.answers), _read(store, one.loyalty)
    for q in makers.questions(test):
        text, judged = (
            said[q.id]["text"],
            dict(language=q.language, rules=scoring.usual_rules(q.language, mlqa=sources.is_mlqa(test.value))),
        )
        yield {
            "language": q.language,
            "article": q.article,
            "question": q.id,
            **scoring.score(text, [gold for gold, _ in q.answers], **judged),
            "probability": said[q.id]["probability"],
            "agreement": scoring.agreement(text, theirs[q.id]["text"], **judged) if theirs else np.nan,
            "loyalty": loyal[q.id] if loyal else np.nan,
            "answer": digest(text)[:16],
        }


def _read(store: Store, run: Run) -> dict:
    return json.loads(store.path(run, f"{run.kind}.json").read_text(encoding="utf-8"))


def results(table: pd.DataFrame) -> pd.DataFrame:
    """Tidy results: a line per run, test set and metric, values of 0 to 100."""
    keys, metrics = [*IDENTITY, *COUNTS, "run"], [*scoring.METRICS, *scoring.MENDED, *BESIDE]
    long = table.melt(id_vars=keys, value_vars=metrics, var_name="metric").dropna(subset="value")
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


def leakage(plan: Plan) -> pd.DataFrame:
    """What must not be, counted, a line per set: its articles, contexts and questions that are among the training ones, too,
    and its contexts that are shown a demonstration of their own article in any way of asking or training."""
    training = makers.questions(plan.train)
    ways = sorted({(one.called[way], one.called["seed"]) for one in plan.asked for way in ("asked", "trained")})
    lines = []
    for source in (plan.train, plan.dev, *plan.tests):
        asked = makers.questions(source)
        first = [group[0] for group in data.by_context(asked)]
        examples = [prompts.demonstrations(first, mode, training, seed) for mode, seed in ways]
        own = sum(
            shown is not None and shown.article == one.article for chosen in examples for shown, one in zip(chosen, first, strict=True)
        )
        shared = dict.fromkeys(data.SHARED, pd.NA) if source is plan.train else data.shared(training, asked)
        counts = {what: found if found is pd.NA else len(found) for what, found in shared.items()}
        lines.append({"set": source.label, **counts, "demonstrations": own})
    return pd.DataFrame(lines)


def export(profile: str, notebook: str, table: pd.DataFrame, kept: pd.DataFrame, gained: pd.DataFrame, learned: pd.DataFrame) -> Path:
    """Write rows, their results, what is kept and gained (`comparison`) as tables and figure, and curves into
    `figures/<profile>/<notebook>/`; return that folder."""
    from studylib import figures  # slow to import, and planning draws nothing

    folder = root() / "figures" / profile / notebook
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".draft-") as place:
        draft = Path(place)
        table.to_parquet(draft / "rows.parquet", index=False)
        results(table).to_csv(draft / "results.csv", index=False)
        learned.to_csv(draft / "learning.csv", index=False)
        (draft / "table.md").write_text(figures.table(kept), encoding="utf-8")
        (draft / "contrasts.md").write_text(figures.contrasts(gained), encoding="utf-8")
        figures.save(figures.retention_figure(kept), draft, "retention")
        figures.save(figures.learning_figure(learned), draft, "learning")
        for file in draft.iterdir():
            file.replace(folder / file.name)
    return folder
