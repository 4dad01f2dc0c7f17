"""Figures show every line, and are written the same twice."""

import re

import matplotlib.image
import pandas as pd
import pytest
from drawings import TAUGHT, choice_figures, kinds, timed
from invented import choice, compared
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from studylib.analysis import cost, figures, retention
from studylib.analysis.figures.cost import FRONT
from studylib.core.labels import SMALLER_TEACHER
from studylib.core.project import root
from studylib.store import exports

SMALL = root() / "figures" / "small"


def learned_by_role():
    """Curves of two steps of a teacher, a student and its control."""
    setting = {
        "family": "f",
        "init": "fine-tuned",
        "teacher": "fine-tuned",
        "train_prompt": "zero-shot",
        "targets": "gold",
        "seed": 0,
    }
    models = [
        {"student": "", "role": "teacher", "objective": "forward_kl"},
        {"student": "f-5", "role": "student", "objective": "forward_kl"},
        {"student": "f-5", "role": "control", "objective": "cross_entropy"},
    ]
    return pd.DataFrame(
        [
            setting
            | model
            | {"run": model["student"], "step": step}
            | {"loss": 1 / step, "dev_loss": 2 / step, "dev_f1": 5.0 * step}
            for model in models
            for step in (1, 2)
        ]
    )


def save_retention(folder):
    """Save the figure of two students and the control of the larger one."""
    kept, _ = compared({("student", 5): 0.6, ("student", 2): 0.4, ("control", 5): 0.3})
    drawn = figures.retention_figure(kept, kept.assign(seed=0), "zero-shot")
    figures.save(drawn, folder, "retention")


@pytest.fixture(scope="module")
def retention_svg(tmp_path_factory):
    """The text of that figure."""
    folder = tmp_path_factory.mktemp("drawn")
    save_retention(folder)
    return (folder / "retention.svg").read_text()


def test_figures_are_the_same_bytes_twice(tmp_path):
    for folder in ("a", "b"):
        save_retention(tmp_path / folder)
        figures.save(figures.learning_figure(learned_by_role()), tmp_path / folder, "learning")
    for name in ("retention.svg", "learning.svg", "retention.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        "90 %",
        "57.1 %",
        "student, fine-tuned init",
        "control, fine-tuned init",
        "fewer non-embedding parameters",
    ],
)
def test_the_figure_of_retention_names_every_model_and_mark(words, retention_svg):
    assert words in retention_svg


def test_text_is_in_a_font_that_is_the_same_wherever_it_is_drawn(retention_svg):
    assert set(re.findall('font-family: ([^;"]+)', retention_svg)) == {"'DejaVu Sans'"}


def test_a_teacher_that_knows_nothing_can_be_drawn(tmp_path):
    kept, _ = compared({("student", 5): 0.0}, teacher=0.0)
    drawn = figures.retention_figure(kept, kept.assign(seed=0), "zero-shot")
    figures.save(drawn, tmp_path, "retention")
    assert not [text for text in drawn.legends[0].get_texts() if "teachers" in text.get_text()]


def learned_of(teachers):
    """Curves of an uncut teacher, a control, and students of so many other teachers."""
    step = {"step": [0, 5], "loss": [2.0, 1.0], "dev_loss": [2.0, 1.0], "dev_f1": [0.0, 50.0]}
    setting = {"family": "f", "train_prompt": "zero-shot", "init": "base", "seed": 0}
    setting |= {"objective": "o"}
    names = [("teacher", "fine-tuned", ""), ("control", "none (gold only)", "f-5")]
    students = [f"a teacher of a long name, {number}" for number in range(teachers)]
    names += [("student", name, "f-5") for name in students]
    curves = [
        pd.DataFrame(step).assign(**setting, role=role, teacher=teacher, student=student)
        for role, teacher, student in names
    ]
    return pd.concat(curves)


def test_curves_of_many_teachers_keep_their_height_above_a_long_legend():
    drawn = figures.learning_figure(learned_of(9))
    drawn.draw_without_rendering()
    assert min(axis.get_window_extent().height for axis in drawn.axes) > 0.7 * drawn.dpi
    entries = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert entries[:3] == [
        "uncut",
        "teacher: none (gold only)",
        "teacher: a teacher of a long name, 0",
    ]


def test_curves_that_meet_differ_in_colour_and_in_marker_or_line_and_cover_nothing():
    drawn = figures.learning_figure(learned_of(9))
    drawn.draw_without_rendering()
    *_, control, f1 = drawn.axes
    assert f1.get_window_extent().width > 1.5 * control.get_window_extent().width
    looks = [(line.get_marker(), line.get_linestyle()) for line in f1.lines]
    assert len(set(looks)) == len({line.get_color() for line in f1.lines}) == 9
    assert {line.get_fillstyle() for line in f1.lines} == {"none"}
    assert f1.get_ylim()[1] < 60, "no room for what nobody scores"


def test_figures_of_cost_and_teacher_sizes_show_every_model(tmp_path):
    kept, _ = compared(
        {("student", 5): 0.6, ("student", 2): 0.4, ("control", 5): 0.3}
        | {(SMALLER_TEACHER, 2): 0.5}
    )
    costs = timed(kept).merge(kept[["role", "student", "teacher", *retention.BOUNDS["f1"]]])
    figures.save(figures.cost_figure(costs), tmp_path, "cost")
    students = kept[kept.student == "f-2"]
    sweep = students.assign(ratio=[1.7, 1.2], teacher_f1=[80.0, 30.0])[
        [*retention.SETTING, "student", "teacher", "ratio", "teacher_f1", "f1"]
    ]
    each = pd.concat([students.assign(seed=seed) for seed in (0, 1, 2)])
    drawn = figures.teacher_sizes_figure(sweep.assign(f1_low=45.0, f1_high=55.0), each)
    figures.save(drawn, tmp_path, "teacher_sizes")
    (dots,) = (line for line in drawn.axes[0].lines if line.get_marker() == ".")
    assert sorted(dots.get_xdata()) == 3 * [1.2] + 3 * [1.7]
    words = {
        "cost": ["student, fine-tuned init", "student (smaller teacher), fine-tuned init", FRONT],
        "teacher_sizes": ["its teacher"],
    }
    for name, labels in words.items():
        assert all(f">{word}<" in (tmp_path / f"{name}.svg").read_text() for word in labels), name


def test_a_png_fills_a_slide_in_one_direction(tmp_path):
    for wide, high in ((7.2, 2.0), (7.2, 9.0)):
        figures.save(Figure(figsize=(wide, high)), tmp_path, "any")
        size = matplotlib.image.imread(tmp_path / "any.png").shape[1::-1]
        assert size == pytest.approx(
            (1920, 1920 * high / wide) if wide / high > 16 / 9 else (1080 * wide / high, 1080),
            abs=1,
        )


def test_figures_of_the_choice_and_of_prompting_show_every_line(tmp_path):
    rows = choice(**TAUGHT)
    for folder in ("a", "b"):
        figures.save(
            figures.choice_figure(retention.compare(rows), retention.by_seed(rows)),
            tmp_path / folder,
            "students",
        )
        drawn = choice_figures(rows)["teacher_vs_student"]
        figures.save(drawn, tmp_path / folder, "teacher_vs_student")
        figures.save(figures.traits_figure(kinds()), tmp_path / folder, "traits")
    for name, words in {
        "students": ["self-distillation", "none (gold only)", "fine-tuned"],
        "teacher_vs_student": ["base", "smaller, fine-tuned"],
        "traits": ["asks: who", "answer in the first third", "n = 30"],
    }.items():
        drawn = (tmp_path / "a" / f"{name}.svg").read_text()
        assert all(f">{word}<" in drawn for word in words), name
        assert drawn == (tmp_path / "b" / f"{name}.svg").read_text()


def written(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """Every text that is drawn, once all have their places."""
    canvas, draw = FigureCanvasAgg(figure), Text.draw
    canvas.draw()
    figure.set_layout_engine("none")
    drawn: dict[int, Text] = {}

    def record(text: Text, renderer: object) -> None:
        drawn[id(text)] = text
        draw(text, renderer)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        canvas.draw()
    return [text for text in drawn.values() if text.get_visible() and text.get_text()]


def from_small(notebook: str) -> dict[str, Figure]:
    """The figures of an experiment, drawn from its committed tables."""

    def table(name: str) -> pd.DataFrame:
        return exports.read(SMALL / notebook / f"{name}.csv")

    bounds = list(retention.BOUNDS["f1"])
    if notebook == "capacity_gap":
        drawn = figures.capacity_gap(
            table("retention"),
            table("seeds"),
            cost.pareto(table("timing")),
            pd.DataFrame(),
            table("learning"),
            "zero-shot",
        )
    elif notebook == "teacher_choice":
        scores = table("teacher_vs_student").drop(columns=bounds)
        drawn = figures.teacher_choice(table("students"), table("seeds"), scores, table("learning"))
    elif notebook == "methods":
        nothing = pd.DataFrame()
        drawn = figures.methods(table("methods").assign(arm="student"), nothing, nothing)
    else:
        drawn = figures.prompting_mode(
            table("prompting"), table("seeds"), table("traits"), table("bases")
        )
    return {name: figure for name, (figure, _) in drawn.items()}


@pytest.mark.parametrize(
    "notebook", ["capacity_gap", "teacher_choice", "prompting_mode", "methods"]
)
def test_no_text_crosses_another_or_leaves_its_figure(notebook: str, monkeypatch):
    drawn = from_small(notebook)
    assert {file.stem for file in (SMALL / notebook).glob("*.svg")} == drawn.keys()
    for name, figure in drawn.items():
        places = [(text, text.get_window_extent()) for text in written(figure, monkeypatch)]
        for number, (text, place) in enumerate(places):
            others = [other for other, there in places[:number] if place.overlaps(there)]
            assert not others, f"{name}: {text} crosses {others}"
            assert (place.min >= -1).all() and (place.max <= figure.bbox.max + 1).all(), text


def test_the_marks_are_named_where_nothing_is_drawn(monkeypatch):
    """The 57.1 % mark and the 90 % line, beside their panels: over no band and no curve."""
    figure = from_small("capacity_gap")["retention"]
    drawn = written(figure, monkeypatch)
    for axis, marks in zip(figure.axes, 2 * [["57.1 %", "90 %"], ["90 %"]], strict=True):
        assert sorted(text.get_text() for text in drawn if text in axis.texts) == marks
    for axis in figure.axes:
        for text in axis.texts:
            assert not any(text.get_window_extent().overlaps(panel.bbox) for panel in figure.axes)
