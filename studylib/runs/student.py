"""A student: a pruned or a smaller model, trained on what teachers say and on gold answers; a
control, on gold answers alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from studylib.core.errors import StudyError
from studylib.core.progress import Progress
from studylib.methods import stages as method_stages
from studylib.methods.stages import Stage
from studylib.runs import examples, inputs, lr_search, plan_parts, supervision
from studylib.store.run import Input, Run
from studylib.store.store import Store


def plan(
    init: Run | Input,
    supervisions: Sequence[supervision.Supervision],
    setting: plan_parts.Setting,
    *,
    stages: Sequence[Mapping],
    targets: str,
    lrs: Sequence[float],
    lr_search_steps: int,
    label: str,
) -> Run:
    """`init` (a cut model, or a smaller one from outside) trained through `stages` on the text
    `targets`; if there are several learning rates, at the one that a search finds best.

    The text is that of the first supervision; of several, the mean of the teachers' probabilities
    is learnt.
    """
    parsed = method_stages.parse(stages)
    _check_vocabularies(init, supervisions, parsed, label)
    needs = {"init": init, "train": setting.questions(targets), "dev": setting.dev}
    if supervisions:
        needs |= supervisions[0].text(targets) | _taught_by(supervisions, parsed, targets, init)
        needs |= {
            f"examples {number}": examples.plan(
                stages[number], init, supervisions[0], setting, targets=targets, label=label
            )
            for number, stage in enumerate(parsed)
            if stage.makes_data
        }
    cut_to = {"depth": init.parameters["depth"]} if isinstance(init, Run) else {}
    parameters = cut_to | setting.recipe(stages, lrs[0], targets)
    recipe = plan_parts.versions_of(setting.train_prompt, *PARTS) | method_stages.versions(parsed)
    if len(lrs) > 1:
        search = lr_search.plan(
            parameters, needs, recipe, lrs=lrs, steps=lr_search_steps, label=label
        )
        needs, parameters["lr"] = needs | {"lr_search": search}, "searched"
    return Run("student", parameters, needs, recipe, label)


def _to_trim(init: Run | Input, supervised_by: supervision.Supervision) -> Run | None:
    """The vocabulary to which a teacher must be cut to read its student's tokens, if it must."""
    trimmed = plan_parts.vocabulary_of(init)
    return trimmed if plan_parts.vocabulary_of(supervised_by.teacher) is None else None


def _check_vocabularies(
    init: Run | Input,
    supervisions: Sequence[supervision.Supervision],
    stages: Sequence[Stage],
    label: str,
) -> None:
    """Raise StudyError for a teacher whose vocabulary was trimmed to other tokens than its
    student's, and for a method that asks both where the student's alone was trimmed."""
    trimmed = plan_parts.vocabulary_of(init)
    for supervised_by in supervisions:
        other = plan_parts.vocabulary_of(supervised_by.teacher)
        if other is not None and (trimmed is None or other.planned != trimmed.planned):
            raise StudyError(
                f"{label}: teacher and student are trimmed to different vocabularies: take a"
                " teacher of the student's tokens, or of all."
            )
        asking = [stage.name for stage in stages if stage.makes_data]
        if asking and trimmed is not None and other is None:
            raise StudyError(
                f"{label}: {asking[0]} asks teacher and student, whose vocabularies differ: take a"
                " size with the whole vocabulary."
            )


PARTS = ("cutting", "divergences", "features", "objectives", "teaching", "training", "scoring")


def _taught_by(
    supervisions: Sequence[supervision.Supervision],
    stages: Sequence[Stage],
    targets: str,
    init: Run | Input,
) -> dict[str, Run | Input]:
    """The teachers, where a loss compares the student with them, and their states, where cached
    ones will do, in the vocabulary of the student's `init`."""
    needs: dict[str, Run | Input] = {}
    for number, supervised_by in enumerate(supervisions, start=1):
        which = f" {number}" if number > 1 else ""
        if any(stage.uses_teacher for stage in stages):
            needs[f"teacher{which}"] = supervised_by.teacher
        if tokens := method_stages.cached(stages):
            demonstration = method_stages.demonstration(stages)
            needs[f"states{which}"] = supervised_by.states(
                tokens, targets, demonstration, _to_trim(init, supervised_by)
            )
    if any(stage.prototype.signals.base for stage in stages):
        needs[supervision.BASE_TEACHER] = plan_parts.base_of(supervisions[0].teacher)
    return needs


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Train through all stages, by the teacher's states where a stage asks for them."""
    model, tokenizer = inputs.load(store, run.needs["init"])
    return supervision.train(run, model, tokenizer, folder, store, bar)


cost = supervision.cost
