"""Whether the models in the store are those that were planned: of the planned size, with their
run's digest, and no one else's.

That they were trained as planned is not seen by looking at them.
"""

from collections.abc import Iterator

from studylib.core.errors import StudyError
from studylib.core.filesystem import digest
from studylib.experiments.plans import Plan
from studylib.models import loading
from studylib.runs import plan_parts
from studylib.runs.budget import SHARED
from studylib.store.run import Run
from studylib.store.store import Store


def differences(plan: Plan, store: Store) -> Iterator[str]:
    """A sentence for each way in which a stored model differs from its plan, its run's result and
    the other models."""
    owners = dict[str, Run]()
    for run in {
        run.planned: run for run, _ in plan.trained if store.result(run) is not None
    }.values():
        try:
            yield from _differing(run, store, owners)
        except StudyError as error:
            yield f"{run.label}: {error}"


def unknown(plan: Plan) -> set[str]:
    """The models from outside that are not at hand, so that the size of what is made of them is not
    known."""
    return set(filter(loading.to_fetch, (plan_parts.base_of(run).value for run, _ in plan.trained)))


def _differing(run: Run, store: Store, owners: dict[str, Run]) -> Iterator[str]:
    folder, result = store.path(run, "model"), store.result(run) or {}
    if digest(result["files"]) != result["digest"]:
        yield (
            f"{run.label}: its files are not those that answers and students were made of (digest"
            " differs)"
        )
    counted = loading.counted(folder)
    holds = (
        f"{run.label}: {folder} holds {counted['total']:,} parameters"
        f" ({counted['nonembedding']:,} outside embeddings)"
    )
    if result["facts"]["parameters"] != counted:
        yield f"{holds}, its result says {result['facts']['parameters']['total']:,}"
    if not loading.to_fetch(plan_parts.base_of(run).value):
        shape = SHARED.shape(run)
        if {"total": shape.total, "nonembedding": shape.nonembedding} != counted:
            yield f"{holds}, {shape.total:,} were planned"
    held = digest(
        {name: known for name, known in result["files"].items() if name.endswith(".safetensors")}
    )
    if (owner := owners.setdefault(held, run)) is not run:
        yield f"{run.label}: {folder} holds the weights of {owner.label}, to the bit"
