"""Every number leads to the runs that it is computed from."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from studylib.analysis import contrasts, retention, run_ids
from studylib.core.project import root

COMMITTED = sorted((root() / "figures" / "small").glob("*/*.csv"))


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_number_of_a_committed_table_leads_to_runs_that_are_listed(file: Path):
    table, listed = pd.read_csv(file), pd.read_csv(file.with_name("runs.csv")).key
    if table.empty:
        pytest.skip("it has no number yet")
    assert table.select_dtypes("number").shape[1] > 0
    named = table["key" if "key" in table else "runs" if "runs" in table else "run"]
    assert named.notna().all() and named.str.len().min() >= run_ids.DIGITS
    for key in {key for cell in named for key in cell.split()}:
        assert listed.str.startswith(key).sum() == 1, (
            f"{key} is not one run of {file.parent.name}/runs.csv"
        )


def first(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The first line of each kind of model or difference on the last test set."""
    return table[table.test_set == table.test_set.iloc[-1]].drop_duplicates(columns)


@pytest.mark.parametrize(
    ("analysis", "columns"),
    [
        (retention.compare, ["role", "init"]),
        (retention.by_seed, ["role", "init"]),
        (contrasts.contrasts, ["contrast"]),
    ],
    ids=["compare", "by seed", "contrasts"],
)
def test_the_rows_of_the_runs_that_a_line_names_are_all_that_it_needs(
    analysis: Callable, columns: list[str]
):
    """But for the correction for the other lines."""
    rows = pd.read_parquet(root() / "figures" / "small" / "capacity_gap" / "rows.parquet")
    whole, short = analysis(rows), rows.run.str[: run_ids.DIGITS]
    lines = first(whole, columns).drop(columns=["p_holm", "detectable", "primary"], errors="ignore")
    assert len(lines) > 2
    for line in lines.to_dict("records"):
        alone = analysis(rows[short.isin(line["runs"].split())])
        matches = alone[
            (alone[list(line)[:6]] == list(line.values())[:6]).all(axis=1)
            & (alone.runs == line["runs"])
        ]
        pd.testing.assert_frame_equal(
            matches[list(line)].reset_index(drop=True),
            pd.DataFrame([line]),
            rtol=1e-12,
            check_dtype=False,
        )


def test_keys_are_short_sorted_and_named_once():
    key, other = "b" * 24, "a" * 24
    assert run_ids.joined([key, f"{other} {key}"]) == f"{'a' * 12} {'b' * 12}"
    assert run_ids.of(
        pd.DataFrame({"run": [key, key]}), pd.DataFrame({"run": [other]})
    ) == run_ids.joined([other, key])
    assert run_ids.joined([]) == ""
