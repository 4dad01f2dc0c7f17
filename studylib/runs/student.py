"""A student: a pruned or a smaller model, trained on what teachers say and on gold answers; a
control, on gold answers alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from studylib.core.progress import Progress
from studylib.methods import stages as method_stages
from studylib.methods.stages import Stage
from studylib.runs import examples, inputs, lr_search, planning, supervision
from studylib.store.run import Input, Run
from studylib.store.store import Store


def plan(
    start: Run | Input,
    lessons: Sequence[supervision.Lesson],
    setting: planning.Setting,
    *,
    stages: Sequence[Mapping],
    learn: str,
    rates: Sequence[float],
    search_steps: int,
    label: str,
) -> Run:
    """`start` (a cut model, or a smaller one from outside) trained through `stages` on the text
    `learn`; if there are several rates, at the one that a search finds best.

    The text is that of the first lesson; of several, the mean of the teachers' probabilities is
    learnt.
    """
    parsed = method_stages.parse(stages)
    needs = {"start": start, "train": setting.train, "dev": setting.dev}
    if lessons:
        needs |= lessons[0].text(learn) | _taught_by(lessons, parsed, learn)
        needs |= {
            f"examples {number}": examples.plan(
                stages[number], start, lessons[0], setting, learn=learn, label=label
            )
            for number, stage in enumerate(parsed)
            if stage.makes_data
        }
    cut_to = {"depth": start.parameters["depth"]} if isinstance(start, Run) else {}
    parameters = cut_to | setting.recipe(stages, rates[0], learn)
    recipe = planning.made_by(setting.trained, *MADE_BY) | method_stages.versions(parsed)
    if len(rates) > 1:
        search = lr_search.plan(
            parameters, needs, recipe, rates=rates, steps=search_steps, label=label
        )
        needs, parameters["rate"] = needs | {"rate": search}, "searched"
    return Run("student", parameters, needs, recipe, label)


MADE_BY = ("cutting", "divergences", "features", "objectives", "teaching", "training", "scoring")


def _taught_by(
    lessons: Sequence[supervision.Lesson], stages: Sequence[Stage], learn: str
) -> dict[str, Run | Input]:
    """The teachers, where a loss compares the student with them, and their states, where cached
    ones will do."""
    needs: dict[str, Run | Input] = {}
    for number, lesson in enumerate(lessons, start=1):
        which = f" {number}" if number > 1 else ""
        if any(stage.uses_teacher for stage in stages):
            needs[f"teacher{which}"] = lesson.teacher
        if tokens := method_stages.cached(stages):
            needs[f"states{which}"] = lesson.states(tokens, learn)
    return needs


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Train through all stages, by the teacher's states where a stage asks for them."""
    model, tokenizer = inputs.load(store, run.needs["start"])
    return supervision.train(run, model, tokenizer, folder, store, bar)


cost = supervision.cost
