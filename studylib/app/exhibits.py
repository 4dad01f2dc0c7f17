"""What a notebook shows, written into its folder under figures/: rows, tables, texts and figures.

export(folder, rows, tables, texts, figures)
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from studylib.analysis import figures, pairing
from studylib.app import conflicts
from studylib.app.rows import COUNTS
from studylib.evaluation.question_scores import SCORES
from studylib.store import exports, output_folder
from studylib.store.exports import IDENTITY


def export(
    folder: Path,
    table: pd.DataFrame,
    kept: Mapping[str, pd.DataFrame],
    texts: Mapping[str, str],
    drawn: Mapping[str, tuple[Figure, pd.DataFrame]],
) -> None:
    """Write rows, their results, tables to be `kept` (as CSV), `texts` (as Markdown) and figures,
    each with what it draws (as CSV if it is not among the former), by their names into `folder`;
    all but the arms, which the plan states.

    Rows and lines of tables to be kept that were exported or appended before and are not among
    these are kept beside them; figures are not. Raises StudyError where the folder shows another
    plan, or a file of these names that the study did not write.
    """
    conflicts.check_plan(table, folder)
    with output_folder.alone(folder):
        before = output_folder.listed(folder)
        with output_folder.draft(folder) as draft:
            written = {
                "rows.parquet": table,
                **{f"{name}.csv": part for name, part in exports.timed(kept).items()},
            }
            exports.merge(
                folder, {name: _without_arms(part) for name, part in written.items()}, draft
            )
            exports.save(results(exports.read(draft / "rows.parquet")), draft / "results.csv")
            for name, text in texts.items():
                (draft / f"{name}.md").write_text(text, encoding="utf-8")
            for name, (figure, shown) in drawn.items():
                figures.save(figure, draft, name)
                if name not in kept:
                    exports.save(_without_arms(shown), draft / f"{name}.csv")
        exports.clear_parts(folder)
        old = {Path(name).stem for name in before if name.endswith(".svg")} - set(drawn)
        gone = {f"{name}.{ending}" for name in old for ending in ("svg", "png", "csv")}
        output_folder.drop(folder, gone - set(exports.KEPT))


def _without_arms(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="arm", errors="ignore")


def results(table: pd.DataFrame) -> pd.DataFrame:
    """Tidy results: a line per run, test set and metric, values of 0 to 100, over distinct
    questions."""
    keys = [*IDENTITY, *COUNTS, "run"]
    long = pairing.distinct(table).melt(id_vars=keys, value_vars=SCORES, var_name="metric")
    values = long.dropna(subset="value").groupby([*keys, "metric"], sort=False)["value"]
    tidy = values.agg(value="mean", n="size").reset_index()
    columns = [*IDENTITY, "metric", "value", "n", "run", *COUNTS]
    return tidy.assign(value=(100 * tidy.value).round(4))[columns]
