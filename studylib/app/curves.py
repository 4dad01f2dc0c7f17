"""Learning curves: the loss of every step of every trained model.

curves(plan, folder=folder)
"""

from pathlib import Path

import pandas as pd

from studylib.experiments.plans import Plan
from studylib.store import exports
from studylib.store.store import Store

CALLED = [
    "family",
    "student",
    "role",
    "init",
    "teacher",
    "targets",
    "objective",
    "train_prompt",
    "seed",
]
MODEL = [*CALLED, "run", "planned"]


def curves(plan: Plan, store: Store | None = None, folder: Path | None = None) -> pd.DataFrame:
    """The loss of every step of every trained model, and the dev F1 where it was measured; of
    models that the store does not have, what was exported to `folder`."""
    store, exported = (store or Store()).snapshot(), exports.exported(folder, "learning.csv")
    frames = []
    for run, called in plan.trained:
        fixed = {name: called[name] for name in CALLED} | {"planned": run.planned}
        if store.result(run) is not None:
            frames.append(
                pd.DataFrame(store.read(run, "curve.json")).assign(**fixed, run=store.key(run))
            )
        elif run.planned in exported:
            frames.append(exported[run.planned].dropna(axis="columns", how="all").assign(**fixed))
    table = pd.concat(frames or [pd.DataFrame(columns=["step", "loss", *MODEL])], ignore_index=True)
    return table[[name for name in table if name not in MODEL] + MODEL]
