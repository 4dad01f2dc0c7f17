"""The examples that a method makes before its training: with rationales, wrong answers or
paraphrases, as it decides."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from studylib.core.filesystem import write_json
from studylib.core.progress import Progress
from studylib.data import examples as data_examples
from studylib.evaluation import generate
from studylib.evaluation.ask import Models
from studylib.methods import stages as method_stages
from studylib.methods.stages import Stage
from studylib.runs import budget, inputs, plan_parts, supervision
from studylib.store.run import Input, Run
from studylib.store.store import Store


def plan(
    stage: Mapping,
    init: Run | Input,
    supervised_by: supervision.Supervision,
    setting: plan_parts.Setting,
    *,
    targets: str,
    label: str,
) -> Run:
    """The examples of a stage that makes them, by asking the supervising teacher and the model that
    students start from."""
    (parsed,) = method_stages.parse([stage])
    parameters = {
        "train_prompt": setting.train_prompt,
        "seed": setting.seed,
        "targets": targets,
        "method": parsed.name,
        "options": dict(stage.get("options", {})),
    }
    needs = {"teacher": supervised_by.teacher, "init": init, "train": setting.questions(targets)}
    recipe = plan_parts.versions_of(setting.train_prompt, "answering", "scoring")
    return Run(
        "examples",
        parameters,
        needs | supervised_by.text(targets),
        recipe | parsed.prototype.versions,
        f"{label}, examples of {parsed.name}",
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Ask teacher and student what the method wants to know."""
    teacher, tokenizer = inputs.load(store, run.needs["teacher"])
    student, _ = inputs.load(store, run.needs["init"])
    ask = Models(
        {"teacher": teacher, "student": student},
        tokenizer,
        run.parameters["seed"],
        inputs.builder(run, tokenizer, teacher.config),
    )
    learnt = [data_examples.of(question) for question in inputs.learnt(run, store)]
    examples = _stage(run).method().data(learnt, ask)
    write_json(folder / "examples.json", [asdict(example) for example in examples])
    return {"examples": len(examples)}


def _stage(run: Run) -> Stage:
    """A stage of the method that makes a run's examples, with its options."""
    named = {name: run.parameters[name] for name in ("method", "options")}
    return method_stages.parse([{"steps": 1} | named])[0]


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """As much as the answers to the training questions that the method asks for."""
    shape, student = (work.shape(run.needs[name]) for name in ("teacher", "init"))
    text, method = work.text(run, "train", True), _stage(run).prototype
    done = {"answering": budget.generating(method, "data", text, student, shape)}
    tokens = sum(method.generates("data").values()) * text.rows * text.tokens
    held = budget.FLOAT * (shape.total + student.total)
    memory = held + budget.FLOAT * shape.hidden * generate.BATCH * max(text.lengths)
    return budget.took(run, shape, tokens, done, memory, 0, 0)
