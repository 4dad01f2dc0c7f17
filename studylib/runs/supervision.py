"""What trained models learn from: a teacher's answers and states when they are planned, all of it
put together when they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from studylib.core import sharding
from studylib.core.libraries import transformers
from studylib.core.progress import Progress
from studylib.data import demonstrations, packing, vocabulary
from studylib.evaluation import metrics
from studylib.evaluation.answers import best
from studylib.evaluation.ask import Models
from studylib.methods import stages as method_stages
from studylib.methods.stages import Stage
from studylib.methods.views import Served, Teacher
from studylib.models import loading, lora, parts, prune
from studylib.runs import answers, budget, comparison, inputs, plan_parts, states
from studylib.store.run import Input, Run
from studylib.store.store import Store
from studylib.training import loop, teachers
from studylib.training.config import Recipe

BASE_TEACHER = "teacher base"  # what a run calls the base model where that teaches a stage
SHOWN = ("loss", "dev_loss", "dev_f1")  # beside a training's progress


@dataclass(frozen=True)
class Supervision:
    """What students can learn from one model: its answers and its states on the training questions,
    asked in the way `prompted`."""

    teacher: Run | Input
    setting: plan_parts.Setting
    prompted: str
    label: str
    kept: dict[str, Run] = field(default_factory=dict)

    def answers(self, targets: str) -> Run:
        """The teacher's answers to the training questions that are read for this text."""
        if targets not in self.kept:
            self.kept[targets] = answers.plan(
                self.teacher,
                self.setting.questions(targets),
                self.setting.labelled,
                eval_prompt=self.prompted,
                seed=self.setting.seed,
                precision=self.setting.answer_precision,
                label=f"{self.label} answers",
            )
        return self.kept[targets]

    def states(
        self, tokens: str, targets: str, demonstration: str = "", trimmed: Run | None = None
    ) -> Run:
        """The teacher's hidden states on the training rows, at answer positions or at all; where it
        reads another `demonstration` than it is asked with, after that; where the student's
        vocabulary is `trimmed`, in its tokens."""
        words = f"vocabulary of {trimmed.parameters['tokens']}" if trimmed else ""
        named = ", ".join(
            filter(None, [f"states at {tokens} tokens", targets, demonstration, words])
        )
        if named not in self.kept:
            self.kept[named] = states.plan(
                self.teacher,
                self.setting,
                self.text(targets),
                prompted=demonstrations.with_demonstration(self.prompted, demonstration),
                tokens=tokens,
                targets=targets,
                trimmed=trimmed,
                label=f"{self.label} {named}",
            )
        return self.kept[named]

    def text(self, targets: str) -> dict[str, Run]:
        """What a run needs besides the training questions to know the text to learn."""
        return {} if targets == "gold" else {"teacher_answers": self.answers(targets)}


def teacher_needs(run: Run) -> list[str]:
    """The needs of a run that are teachers: `teacher`, `teacher 2` and so on, and `teacher base`;
    not their answers."""
    return [name for name in run.needs if name.split()[0] == "teacher"]


def _teacher(
    run: Run,
    store: Store,
    tokenizer: transformers.PreTrainedTokenizerBase,
    dev: Sequence[packing.Pack],
    need: str,
) -> tuple[Teacher, Teacher]:
    """A teacher of a run, by the name of the need: on its training rows (by cached states) and on
    those it is watched by, `dev` (computed now). Several teach by the mean of their probabilities,
    or as a method says. Only where hidden states are compared does it stay: else its states and the
    head that makes logits of them are all that is needed."""
    model = comparison.teacher(run, store, tokenizer, run.needs[need]).eval()
    head = parts.output_of(model, vocabulary.size(tokenizer))
    online = any(stage.online for stage in method_stages.parse(run.parameters["stages"]))
    if online:
        sharding.shard(parts.layers(model))
    aligned = [following - 1 for following in prune.readers(_kept(run, store, model), model)]
    cached = need.replace("teacher", "states")
    stored, computed = _cached(run, store, model, tokenizer, dev, cached)
    teacher = Teacher(head, stored, model if online else None, aligned, need == BASE_TEACHER)
    return teacher, replace(teacher, states=computed)


def _cached(
    run: Run,
    store: Store,
    model: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    dev: Sequence[packing.Pack],
    need: str,
) -> tuple[Served | None, Served | None]:
    """A teacher's states, where the run needs them: those of the training rows, from disk, and
    those of the dev rows. By question, where the teacher is prompted otherwise or a method puts
    rows together itself."""
    if need not in run.needs:
        return None, None
    read = run.needs[need].parameters
    tokens, precision, mode = read["tokens"], read["precision"], read["train_prompt"]
    stored = teachers.CachedStates(store.path(run.needs[need]).glob("states-*.safetensors"), tokens)
    stages = method_stages.parse(run.parameters["stages"])
    reprompted = mode != run.parameters["train_prompt"]
    if not reprompted and not any(stage.prototype.overrides("batch") for stage in stages):
        return stored, teachers.ComputedStates(model, dev, tokens, precision)
    train, shown = (
        inputs.rows(run, store, tokenizer, model, name, mode) for name in ("train", "dev")
    )
    dev = shown if dev and reprompted else dev
    computed = teachers.ComputedStates(model, dev, tokens, precision)
    return teachers.Reprompted(stored, train), teachers.Reprompted(computed, shown)


def _kept(run: Run, store: Store, teacher: transformers.PreTrainedModel) -> list[int]:
    """The teacher's blocks that a student's stand for: those it was cut to, or of one from outside
    evenly spread ones, the last but one of a group each."""
    init, whole = run.needs["init"], len(parts.layers(teacher))
    if isinstance(init, Run):
        return store.read(init, "layers.json")
    depth = loading.config(init.value).num_hidden_layers
    return [whole * block // depth for block in range(depth)]


class TrainingInputs:
    """What a training run puts together from its needs: rows to learn and to be watched by,
    objective, teacher."""

    def __init__(
        self,
        run: Run,
        model: transformers.PreTrainedModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
        store: Store,
    ):
        self.run, self.tokenizer = run, tokenizer
        self.stages = method_stages.parse(run.parameters["stages"])
        self.packs, self.dev = (
            inputs.rows(run, store, tokenizer, model, need) for need in ("train", "dev")
        )
        self.stage_rows = {
            number: inputs.rows(run, store, tokenizer, model, f"examples {number}")
            for number, stage in enumerate(self.stages)
            if stage.makes_data
        }
        custom_batches = any(stage.prototype.overrides("batch") for stage in self.stages)
        watched = self.dev if custom_batches or "num_evals" in run.parameters else []
        pairs = [_teacher(run, store, tokenizer, watched, need) for need in teacher_needs(run)]
        self.teachers = [learnt_from for learnt_from, _ in pairs]
        self.watching = [watching for _, watching in pairs]

    def ask(self, model: transformers.PreTrainedModel) -> Models:
        """What methods may ask while they train this model."""
        return Models(
            {"student": model},
            self.tokenizer,
            self.run.parameters["seed"],
            inputs.builder(self.run, self.tokenizer, model.config),
            dev=self.dev,
            questions={
                branch.question.id: branch.question
                for row in (*self.packs, *self.dev)
                for branch in row.asked
            },
            teachers=self.watching,
            online=any(stage.online for stage in self.stages),
        )

    def shared(self, rate: float) -> dict:
        """What a short trial at a rate and the training itself have in common."""
        same = ("batch_size", "seed", "micro_batch_size", "precision")
        return {
            "recipe": Recipe(lr=rate, **{key: self.run.parameters[key] for key in same}),
            "vocabulary": vocabulary.size(self.tokenizer),
            "teachers": self.teachers,
            "stage_rows": self.stage_rows,
            "ask": self.ask,
        }

    def watched(self, model: transformers.PreTrainedModel) -> loop.Dev:
        """Loss and F1 on the dev questions."""
        parameters, questions = self.run.parameters, inputs.questions(self.run.needs["dev"])
        built = inputs.prompted(self.run, "dev", self.tokenizer, model.config)
        # frozen maps are in the precision of the training
        precision = parameters["precision"] if "lora" in parameters else "fp32"

        def score(current: transformers.PreTrainedModel) -> dict[str, float]:
            predictions = best(answers.ask(current, self.tokenizer, built, precision))
            scores = [metrics.f1(predictions[q.id].text, **metrics.judged(q)) for q in questions]
            return {"dev_f1": 100 * sum(scores) / len(scores)}

        return loop.Dev(self.dev, self.watching, score, parameters["num_evals"])


def train(
    run: Run,
    model: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    folder: Path,
    store: Store,
    bar: Progress,
) -> dict:
    given, rate = TrainingInputs(run, model, tokenizer, store), run.parameters["lr"]
    if "lr_search" in run.needs:
        rate = store.read(run.needs["lr_search"], "rate.json")["best"]
    bar.total(method_stages.steps(given.stages))

    def report(step: int, values: dict) -> None:
        bar.step(step, **{key: value for key, value in values.items() if key in SHOWN})

    curve = loop.train(
        model,
        given.packs,
        stages=given.stages,
        work=folder / "work",
        dev=given.watched(model),
        report=report,
        **given.shared(rate),
    )
    if "lora" in run.parameters:
        trained = lora.adapters(model)
        model, _ = inputs.load(store, run.needs["base"])
        lora.merge(model, trained)
    loading.save(model, tokenizer, folder / "model")
    inputs.note(folder / "curve.json", curve)
    return {"parameters": parts.parameters(model), "last_loss": curve[-1]["loss"], "rate": rate}


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """Steps forward and backward, a teacher's reading beside (of cached states its output head's
    alone), answers that methods ask for, and what the training is watched by."""
    parameters, stages = run.parameters, method_stages.parse(run.parameters["stages"])
    shape, whole = work.shape(run, parameters.get("lora", 0)), work.shape(run)
    train, dev = work.text(run, "train", True), work.text(run, "dev")
    trials = len(parameters["lr"]) if run.kind == "lr_search" else 1
    chosen = (
        method_stages.shortened(stages, parameters["lr_search_steps"])
        if run.kind == "lr_search"
        else stages
    )
    rows = trials * method_stages.steps(chosen) * parameters["batch_size"]
    taught = {name: work.shape(run.needs[name]) for name in teacher_needs(run)}
    online = any(stage.online for stage in stages)
    looked = train.tokens if method_stages.logits_everywhere(stages) else train.answers
    times = trials if run.kind == "lr_search" else 1 + parameters["num_evals"]
    reading = times * dev.rows * shape.forward.flops(dev.tokens, dev.pairs, dev.answers)
    training = rows * shape.training.flops(train.tokens, train.pairs, looked)
    answering = times * budget.answering(shape, dev) if run.kind != "lr_search" else 0.0
    for stage in chosen:
        read, asked = _beside(stage, shape, taught, train, looked)
        reading += trials * parameters["batch_size"] * read
        answering += trials * parameters["batch_size"] * asked
    held = budget.FLOAT * (budget.TRAINED - 1) * shape.trained  # what a checkpoint is written from
    kept = budget.FLOAT * whole.total if run.kind != "lr_search" else 0
    read = rows * train.tokens + times * dev.rows * dev.tokens
    heads = sum(t.total if online else t.hidden * t.vocabulary for t in taught.values())
    together = parameters["micro_batch_size"] or parameters["batch_size"]
    logits = (3 + len(taught)) * together * looked * shape.vocabulary
    weights = budget.FLOAT * (budget.TRAINED * shape.trained + heads) + _frozen(shape, parameters)
    memory = weights + held + budget.FLOAT * logits + budget.BACKWARD * work.saved(run)
    if "lora" in parameters:  # adapters are added to the weights that they were made for
        memory = max(memory, weights + budget.FLOAT * whole.total)
    done = {"training": training, "reading": reading, "answering": answering}
    return budget.took(run, whole, read, done, memory, kept + held, kept)


def _beside(
    stage: Stage,
    student: budget.Shape,
    taught: Mapping[str, budget.Shape],
    text: budget.Text,
    looked: float,
) -> tuple[float, float]:
    """FLOPs of a stage beside its student's steps, for a row a step: of its teachers, which read it
    where they run and of whose cached states the output heads make logits; and of the answers that
    the method asks for."""
    teachers = [
        teacher
        for name, teacher in taught.items()
        if stage.prototype.signals.base == (name == BASE_TEACHER)
    ]
    tokens, pairs = (text.tokens, text.pairs) if stage.online else (0.0, 0.0)
    read = sum(teacher.forward.flops(tokens, pairs, looked) for teacher in teachers)
    asked = budget.generating(stage.prototype, "batch", text, student, *teachers) / text.rows
    return stage.steps * read * stage.uses_teacher, stage.steps * asked


def _frozen(shape: budget.Shape, parameters: Mapping) -> float:
    """Bytes of the weights that are not trained: linear maps of blocks in the training's precision,
    the others in float32."""
    rounded = shape.maps if parameters["precision"] == "bf16" else 0
    return budget.FLOAT * (shape.total - shape.trained - rounded) + budget.HALF * rounded
