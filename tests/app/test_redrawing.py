"""What is shown is compared with what follows from the rows: the first difference is named."""

import shutil
from pathlib import Path

import pytest

from studylib.analysis.figures import look
from studylib.app import redrawing


@pytest.mark.parametrize(
    ("name", "shown", "computed", "wrong", "sentence"),
    [
        (
            "a.csv",
            "x,y\n1.0,u\n",
            "x,y\n1.0000000000001,u\n",
            False,
            "the same numbers but for their last digits",
        ),
        (
            "a.csv",
            "x,y\n1.0,u\n",
            "x,y\n1.0001,u\n",
            True,
            "a.csv, line 2, x: 1.0 is shown, 1.0001 follows",
        ),
        (
            "a.csv",
            "x,y\n1,u\n2,\n",
            "x,y\n1,u\n2,w\n",
            True,
            "a.csv, line 3, y: nothing is shown, w follows",
        ),
        ("a.csv", "x,y\n1,u\n", "x,z\n1,u\n", True, "other columns or lines"),
        (
            "a.csv",
            "x\n1\n2\n",
            "x\n1\n",
            True,
            "other columns or lines (2) than follow from the rows (1)",
        ),
        (
            "a.md",
            "one\ntwo\n",
            "one\nthree\n",
            True,
            "a.md, line 2: 'two' is shown, 'three' follows",
        ),
        ("a.md", "one\n", "one\ntwo\n", True, "a.md has 1 lines, 2 follow"),
        ("a.png", "one", "two", False, "a.png: not compared"),
        ("a.csv", "", "x\n1\n", True, "other columns or lines"),
        ("a.csv", "x,y\n1\n", "x,y\n1,u\n", True, "other columns or lines (1)"),
        ("a.csv", "x\n\udcff\n", "x\n1\n", True, "a.csv is damaged (UnicodeDecodeError)"),
        ("a.md", "\udcff", "one", True, "a.md is damaged (UnicodeDecodeError)"),
        ("a.parquet", "one", "two", True, "a.parquet is damaged (ArrowInvalid)"),
    ],
)
def test_the_first_place_that_differs_is_named(tmp_path, name, shown, computed, wrong, sentence):
    files = [tmp_path / side / name for side in ("shown", "made")]
    for file, text in zip(files, (shown, computed), strict=True):
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
    difference = redrawing.differing(*files)
    assert (difference is None) == (not sentence)
    assert difference is None or (sentence in difference.sentence and difference.wrong == wrong)
    assert redrawing.differing(files[0], files[0]) is None


def drawn(place: Path, height: float) -> Path:
    """A figure as it is exported, with its number."""
    figure = look.figure(4.8, "a line")
    figure.subplots().plot([0, 1], [0, height])
    look.save(figure, place, "a")
    (place / "a.csv").write_text(f"x\n{height}\n")
    return place


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_of_a_figure_the_numbers_are_compared(tmp_path, ending):
    """The same numbers may be drawn otherwise, by another matplotlib or processor."""
    sides = [drawn(tmp_path / side, 1.0) for side in ("shown", "made")]
    shown, computed = (side / f"a.{ending}" for side in sides)
    assert redrawing.differing(shown, computed) is None
    shutil.copy(drawn(tmp_path / "other", 2.0) / shown.name, shown)
    difference = redrawing.differing(shown, computed)
    assert f"{shown.name}: not compared, another drawing" in difference.sentence
    assert not difference.wrong and not difference.seen
    shutil.copy(tmp_path / "other" / "a.csv", sides[0] / "a.csv")
    numbers = redrawing.differing(sides[0] / "a.csv", sides[1] / "a.csv")
    assert numbers.wrong and "2.0 is shown, 1.0 follows" in numbers.sentence
