"""What an answer costs against its score."""

import pandas as pd

from studylib.analysis import retention, run_ids


def pareto(costs: pd.DataFrame) -> pd.DataFrame:
    """The costs (`study.timing`), means over seeds. A model of at least 20 F1 is on the `front`
    where no other of its family and test set is as fast and better."""
    costs = costs.drop(columns=["seed", "planned"])
    measured = costs.select_dtypes("number").columns.difference(["steps"])
    models = costs.groupby([name for name in costs if name not in (*measured, "runs")], sort=False)
    means = (
        models.mean(numeric_only=True).assign(runs=models.runs.agg(run_ids.joined)).reset_index()
    )
    ordered = means.sort_values(["time", "f1"], ascending=[True, False])
    groups = ordered.groupby(["family", "train_prompt", "test_set"], sort=False)
    best = groups.f1.transform(lambda f1: f1.cummax().shift(fill_value=-1))
    return means.assign(front=(ordered.f1 > best.clip(lower=retention.FLOOR)).reindex(means.index))
