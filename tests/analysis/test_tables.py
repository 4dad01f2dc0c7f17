"""Tables in words, from scores that are made up."""

import pandas as pd
from invented import compared

from studylib.analysis import tables
from studylib.core.labels import SMALLER_TEACHER


def test_nothing_is_shown_as_kept_where_the_teacher_knows_nothing():
    assert "| – |" in tables.table(compared({("student", 5): 0.6}, teacher=0.19)[0])


def test_the_table_has_a_line_per_model_and_says_once_what_is_the_same():
    lines = tables.table(compared({("student", 5): 0.6, ("control", 5): 0.4})[0]).splitlines()
    rows, note = [line for line in lines if line.startswith("|")], lines[-1]
    assert len(rows) == 2 + 3 and all(line.count("|") == rows[0].count("|") for line in rows)
    assert "75.0" in next(line for line in rows if "| student |" in line)
    assert "test set near" in note and "questions 100" in note and "test set" not in rows[0]


def test_every_test_set_says_why_it_has_no_intervals():
    enough, few = (
        compared({("student", 5): 0.76, ("control", 5): 0.7}, articles=articles)
        for articles in (30, 4)
    )
    for table, other in zip(enough, few, strict=True):
        both = pd.concat([table, other.assign(test_set="reddit")])
        notes = tables.notes_on(both)
        assert (
            "No intervals on reddit: 100 questions of 4 articles are too few (at least 100 of 30)."
            in notes
        )
        assert (
            "on near" not in notes
            and "articles drawn with replacement" in notes
            and "these seeds only" in notes
        )
    assert "No intervals on reddit" in tables.contrasts(both)
    assert "seeds and then articles drawn" in tables.notes_on(table.assign(seeds=5))


def test_the_headline_has_the_main_models_in_every_way_they_are_asked():
    kept, _ = compared({("student", 5): 0.6, ("control", 5): 0.4, (SMALLER_TEACHER, 5): 0.5})
    more = pd.concat(
        [
            kept,
            kept.assign(eval_prompt="one-shot"),
            kept[kept.role == "student"].assign(init="base"),
        ]
    )
    lines = [
        line.split(" | ") for line in tables.headline(more).splitlines() if line.startswith("|")
    ]
    assert [line[1:3] for line in lines[2:]] == [
        [role, mode]
        for mode in ("zero-shot", "one-shot")
        for role in ("teacher", "student", "control")
    ]
    assert "calibration" not in " ".join(lines[0]) and "F1 kept, %" in lines[0]
    assert "eval prompt zero-shot" in tables.headline(kept)
