"""Names of every script stand in figures: by a font of this machine in pictures, as text in
drawings, and as escapes where there is none."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image

from studylib.analysis import fonts
from studylib.analysis.figures import look
from studylib.app import completion, redrawing, time_budget
from studylib.app.cli import main

HAN, LINEAR_B = "学", "\U00010080"  # of the latter there is no font


@pytest.fixture
def han(tmp_path: Path) -> Iterator[str]:
    """The name of a font that has one Chinese character, a full square, and is forgotten
    afterwards."""
    pen = TTGlyphPen(None)
    for number, place in enumerate([(0, 0), (0, 1000), (1000, 1000), (1000, 0)]):
        (pen.lineTo if number else pen.moveTo)(place)
    pen.closePath()
    built = FontBuilder(1000)
    built.setupGlyphOrder([".notdef", "square"])
    built.setupCharacterMap({ord(HAN): "square"})
    built.setupGlyf(dict.fromkeys((".notdef", "square"), pen.glyph()))
    built.setupHorizontalMetrics(dict.fromkeys((".notdef", "square"), (1000, 0)))
    built.setupHorizontalHeader(ascent=1000, descent=0)
    built.setupNameTable({"familyName": "A Han Square", "styleName": "Regular"})
    built.setupOS2()
    built.setupPost()
    built.save(tmp_path / "square.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "square.ttf")
    yield "A Han Square"
    fontManager.ttflist[:] = before
    fontManager._findfont_cached.cache_clear()


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """No font here but those that matplotlib brings."""
    ours = Path(matplotlib.get_data_path())
    monkeypatch.setattr(
        fontManager,
        "ttflist",
        [entry for entry in fontManager.ttflist if ours in Path(entry.fname).parents],
    )


def drawn(text: str, place: Path) -> Path:
    """A figure with this text and nothing else, saved."""
    figure = look.figure(2, "a text")
    figure.set_size_inches(4, 2)
    figure.text(0.1, 0.4, text, fontsize=30)
    look.save(figure, place, "a")
    return place


def made_with(place: Path) -> str | None:
    """The fonts that its picture says it was made with."""
    with Image.open(place / "a.png") as opened:
        return opened.info.get("Fonts")


def test_what_the_usual_font_has_is_drawn_as_ever(tmp_path: Path):
    for name in ("Qwen2.5 7B", "модель", "نموذج", "ελ − ±…"):
        assert not fonts.lacking(name) and fonts.advice(name) == ""
        assert made_with(drawn(name, tmp_path)) is None
        assert name in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_a_font_of_this_machine_draws_what_the_usual_one_lacks(
    usual: None, han: str, tmp_path: Path
):
    place = drawn(f"a {HAN}", tmp_path)
    assert made_with(place) == han and fonts.advice(HAN) == ""
    dark = matplotlib.image.imread(place / "a.png")[..., :3].max(axis=-1) < 0.5
    assert (
        dark.all(axis=0).sum() == 0
        and max(np.convolve(row, np.ones(50)).max() for row in dark) == 50
    ), "a full square, no box"
    assert f">a {HAN}<" in (place / "a.svg").read_text(encoding="utf-8"), (
        "drawn by the fonts of whoever looks at it"
    )
    assert han not in (place / "a.svg").read_text(encoding="utf-8"), "the same wherever it is made"


def test_what_no_font_has_is_shown_as_escapes_and_said_once(
    usual: None, tmp_path: Path, capsys: pytest.CaptureFixture
):
    fonts._print_once.cache_clear()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        folder, other = (
            drawn(f"a {LINEAR_B}", tmp_path / "one"),
            drawn(f"b {LINEAR_B}", tmp_path / "other"),
        )
        same = drawn(r"a \U00010080", tmp_path / "same")
    assert not [message for message in warned if "Glyph" in str(message.message)]
    assert (
        matplotlib.image.imread(folder / "a.png") == matplotlib.image.imread(same / "a.png")
    ).all()
    assert LINEAR_B in (folder / "a.svg").read_text(encoding="utf-8")
    sentence = (
        f"No font here has {LINEAR_B}: PNG figures show such characters as escapes (\\U00010080);"
        " install a font that has them.\n"
    )
    assert (
        capsys.readouterr().out == sentence == f"{fonts.advice(f'ab{LINEAR_B}')}\n"
        and other.exists()
    )


def test_pictures_made_with_other_fonts_are_not_compared(
    usual: None, han: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown = drawn(HAN, tmp_path / "shown")
    assert redrawing.differing(shown / "a.png", drawn(HAN, tmp_path / "again") / "a.png") is None
    monkeypatch.setattr(
        fontManager, "ttflist", [entry for entry in fontManager.ttflist if entry.name != han]
    )
    redrawn = drawn(HAN, tmp_path / "made")
    assert (shown / "a.svg").read_bytes() == (redrawn / "a.svg").read_bytes()
    difference = redrawing.differing(shown / "a.png", redrawn / "a.png")
    assert (
        difference is not None
        and not difference.wrong
        and not difference.seen
        and "not compared" in difference.sentence
    )


def test_a_run_says_beforehand_which_names_its_pictures_cannot_show(
    usual: None,
    params_file: Callable,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time_budget, "seconds", lambda *_: 300.0)
    monkeypatch.setattr(completion, "complete", interrupted)
    assert main(["run", params_file(families={HAN: "tiny:gpt_neox"}, profile="test-fonts")]) == 130
    assert (
        f"No font here has {HAN}: PNG figures show such characters as escapes (\\u5b66)"
        in capsys.readouterr().out
    )
