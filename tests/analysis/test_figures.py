"""Figures show every line, and are written the same twice."""

import re
from itertools import product

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from invented import choice, compared
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from studylib.analysis import cost, figures, retention, teacher_vs_student
from studylib.analysis.figures.cost import FRONT
from studylib.analysis.figures.retention import MOVED, SIDES
from studylib.core.labels import OTHER_LOSSES, SMALLER_TEACHER
from studylib.core.project import root
from studylib.store import exports

SMALL = root() / "figures" / "small"
# F1 of students by who taught them
TAUGHT = {"fine-tuned": 0.6, "base": 0.4, "smaller, fine-tuned": 0.5, "self-distillation": 0.45}


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


def drawn_bars(axis):
    """What an axis shows as points with bars: label -> (x, y, lower ends, upper ends)."""
    series = {}
    for bars in axis.containers:
        points, _, lines = bars
        ends = [np.array(segment) for several in lines for segment in several.get_segments()]
        upright = [segment for segment in ends if segment[0, 0] == segment[1, 0]]
        series[bars.get_label()] = (
            *points.get_data(),
            [segment[:, 1].min() for segment in upright],
            [segment[:, 1].max() for segment in upright],
        )
    return series


def test_retention_is_drawn_where_the_comparison_has_it():
    kept, _ = compared(
        {("student", 5): 0.76, ("student", 2): 0.4, ("control", 5): 0.7, ("control", 2): 0.3},
        articles=30,
    )
    kept = kept.assign(
        retention_f1_low=kept.retention_f1 - 3, retention_f1_high=kept.retention_f1 + 2
    )
    axes = figures.retention_figure(kept, kept.assign(seed=0), "zero-shot").axes
    for axis, side in zip(axes, SIDES, strict=True):
        for role, beside in (("student", 0), ("control", MOVED)):
            models = kept[kept.role == role].sort_values(side)
            x, y, low, high = drawn_bars(axis)[f"{role}, fine-tuned init"]
            assert x == pytest.approx(models[side] + beside) and y == pytest.approx(
                models.retention_f1
            )
            assert low == pytest.approx(models.retention_f1_low) and high == pytest.approx(
                models.retention_f1_high
            )


def test_a_curve_of_retention_joins_the_points_of_students_alone():
    kept, _ = compared(
        {(role, size): size / 10 for role in ("student", "control") for size in (2, 5)}
    )
    axes = figures.retention_figure(kept, kept.assign(seed=0), "zero-shot").axes
    students = kept[kept.role == "student"]
    for axis, side in zip(axes, SIDES, strict=True):
        solid = [line for line in axis.lines if line.get_linestyle() == "-"]
        (curve,) = (line for line in solid if len(set(line.get_ydata())) == 2)
        assert sorted(curve.get_xdata()) == pytest.approx(sorted(students[side]))


def test_the_margin_is_on_both_sides_and_the_reduction_of_the_paper_on_that_of_all_parameters():
    kept, _ = compared({("student", 5): 0.6}, articles=30)
    drawn = figures.retention_figure(kept, kept.assign(seed=0), "zero-shot")
    level = [
        {
            line.get_ydata()[0]: line.get_linestyle()
            for line in axis.lines
            if len(line.get_ydata()) == 2
        }
        for axis in drawn.axes
    ]
    assert all(lines[90.0] != lines[100.0] == "-" for lines in level)
    marks = [57.1 in np.hstack([line.get_xdata() for line in axis.lines]) for axis in drawn.axes]
    assert marks == [True, False]
    assert "all questions" in drawn.axes[0].get_ylabel()
    assert "95 % intervals" in drawn.legends[0].get_title().get_text()


def timed(kept):
    """What answers of these models cost, made up."""
    measured = {
        f"{whose}{what}": 5.0
        for whose in ("", "teacher_")
        for what in ("milliseconds", "memory", "disk")
    }
    each = measured | {
        "time": 60.0 + 10 * np.arange(len(kept)),
        "time_low": 50.0,
        "time_high": 200.0,
    }
    return cost.pareto(
        kept.drop(columns=["eval_prompt", *retention.BOUNDS["f1"]]).assign(
            seed=0, planned="p", **each
        )
    )


def test_bars_of_costs_are_of_students_and_of_time_once_a_size():
    kept, _ = compared({("student", 5): 0.6, ("control", 5): 0.55, (OTHER_LOSSES, 5): 0.5})
    costs = timed(kept)
    again = costs[costs.arm == "student"].assign(init="base", f1=51.0)
    costs = pd.concat([costs, again], ignore_index=True)
    drawn = figures.cost_figure(costs.assign(f1_low=costs.f1 - 3, f1_high=costs.f1 + 2))
    ends = {
        bars.get_label(): [np.array(bar) for lines in bars[2] for bar in lines.get_segments()]
        for bars in drawn.axes[0].containers
    }
    (time,) = again.time
    across, upright = ends["student, fine-tuned init"]
    assert across.tolist() == [[50.0, 60.0], [200.0, 60.0]]
    assert upright.tolist() == [[time, 57.0], [time, 62.0]]
    across, upright = ends["student, base init"]
    assert not across.size and upright.tolist() == [[time, 48.0], [time, 53.0]]
    others = ("control, fine-tuned init", "student (other losses), fine-tuned init")
    assert not any(ends[name] for name in others)


def test_the_teacher_stands_at_its_own_cost():
    kept, _ = compared({("student", 5): 0.6})
    costs = timed(kept).assign(f1_low=50.0, f1_high=90.0)
    for axis in figures.cost_figure(costs).axes:
        (teacher,) = (line for line in axis.lines if line.get_label() == "teacher")
        assert np.hstack(teacher.get_data()) == pytest.approx([100, 80])


def learned():
    """A curve of one step."""
    setting = {
        "family": "f",
        "student": "",
        "role": "teacher",
        "init": "base",
        "teacher": "fine-tuned",
        "objective": "cross_entropy",
        "train_prompt": "zero-shot",
        "seed": 0,
    }
    return pd.DataFrame([setting | {"step": 1, "loss": 1.0, "dev_loss": 1.0, "dev_f1": 5.0}])


def test_what_is_drawn_of_costs_and_teachers_is_exported_beside():
    kept, _ = compared({("student", 5): 0.6, ("student", 2): 0.4}, articles=30)
    kept = kept.assign(f1_low=kept.f1 - 3, f1_high=kept.f1 + 2)
    figure, costs = figures.capacity_gap(
        kept, kept.assign(seed=0), timed(kept), pd.DataFrame(), learned(), "zero-shot"
    )["cost"]
    x, y, low, high = drawn_bars(figure.axes[0])["student, fine-tuned init"]
    students = costs[costs.role == "student"]
    assert (
        x == pytest.approx(students.time)
        and y == pytest.approx(students.f1)
        and sorted(y) == pytest.approx([40, 60])
    )
    assert (
        low == pytest.approx(students.f1_low)
        and low == pytest.approx(y - 3)
        and high == pytest.approx(students.f1_high)
    )
    rows = choice(**TAUGHT)
    kept = retention.compare(rows)
    kept = kept.assign(f1_low=kept.f1 - 3, f1_high=kept.f1 + 2)
    figure, scores = figures.teacher_choice(
        kept, retention.by_seed(rows), teacher_vs_student.compare(rows), learned()
    )["teacher_vs_student"]
    bars = drawn_bars(figure.axes[0])
    for line in scores.itertuples():
        assert np.hstack(bars[line.teacher]) == pytest.approx(
            [line.teacher_f1, line.student_f1, line.student_f1 - 3, line.student_f1 + 2]
        )
        assert line.f1_low == pytest.approx(line.student_f1 - 3)


def choice_figures(rows):
    """The figures of the choice of teachers by name, from rows."""
    kept, scores = retention.compare(rows), teacher_vs_student.compare(rows)
    drawn = figures.teacher_choice(kept, retention.by_seed(rows), scores, learned())
    return {name: figure for name, (figure, _) in drawn.items()}


def test_panels_of_fewer_than_three_teachers_are_not_drawn():
    rows = choice(**TAUGHT)
    (panel,) = choice_figures(rows)["teacher_vs_student"].axes
    assert panel.get_xlabel() == "teacher's F1, as it taught"
    few = rows[(rows.role != "student") | rows.teacher.isin(["fine-tuned", "base"])]
    assert "teacher_vs_student" not in choice_figures(few)
    both = pd.concat([rows, few.assign(test_set="far")])
    (panel,) = choice_figures(both)["teacher_vs_student"].axes
    assert panel.get_title() == "near, zero-shot"


def test_students_of_all_panels_share_their_axes():
    rows = choice(**TAUGHT)
    drawn = choice_figures(pd.concat([rows, rows.assign(test_set="far", f1=rows.f1 / 4)]))
    near, far = drawn["students"].axes
    assert near.get_xlim() == far.get_xlim() and near.get_ylim() == far.get_ylim()
    assert (near.get_ylabel(), far.get_ylabel()) == ("teacher", "")


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


def kinds():
    """What a demonstration adds for two kinds of question (`prompting.by_trait`), made up."""
    gain = {"difference": [5.0, 6.0], "low": [4.0, 5.0], "high": [6.0, 7.0]}
    apart = {"apart": [1.0, 2.0], "apart_low": [-2.0, None], "apart_high": [3.0, None]}
    traits = {"trait": ["asks", "answer stands in the"], "value": ["who", "first third"]}
    return pd.DataFrame({"family": "f", "test_set": "t", **traits, "n": [30, 40], **gain, **apart})


def test_kinds_of_question_are_drawn_with_their_difference_to_the_others_and_their_number():
    (axis,) = figures.traits_figure(kinds()).axes
    points, _, (bars,) = axis.containers[0]
    assert points.get_xdata().tolist() == [1.0, 2.0]
    assert bars.get_segments()[0].tolist() == [[-2.0, 0.0], [3.0, 0.0]]
    (counts,) = axis.child_axes
    labels = [[text.get_text() for text in side.get_yticklabels()] for side in (axis, counts)]
    assert labels == [["asks: who", "answer in the first third"], ["n = 30", "n = 40"]]


def test_kinds_that_are_compared_with_no_others_are_not_drawn():
    kept = retention.compare(choice(**TAUGHT))
    alone = kinds().assign(apart=[1.0, None])
    _, drawn = figures.prompting_mode(kept, kept.assign(seed=0), alone)["traits"]
    assert list(drawn.trait) == ["asks"]
    none = figures.prompting_mode(kept, kept.assign(seed=0), alone.assign(apart=np.nan))
    assert "traits" not in none


def test_models_before_any_training_have_a_panel_of_their_own():
    rows = choice(**{"fine-tuned": 0.6})
    models = pd.concat([rows, rows[rows.role == "teacher"].assign(seed=1)])
    setting = {"family": "f", "test_set": "near", "f1_low": 8.0, "f1_high": 32.0}
    asked = {"student": ["", "", "f-S"], "eval_prompt": ["zero-shot", "one-shot", "zero-shot"]}
    bases = pd.DataFrame({**asked, "f1": [10.0, 30.0, 20.0], **setting})
    drawn = figures.modes_figure(retention.compare(models), retention.by_seed(models), bases)
    titles = ["near, teacher", "near, control", "near, student", "near, base"]
    assert [axis.get_title() for axis in drawn.axes] == titles
    bars = drawn_bars(drawn.axes[-1])
    assert bars.keys() == {"not trained", "S, not trained"}
    assert bars["not trained"][0] == pytest.approx([0, 1], abs=0.1)
    assert bars["not trained"][1].tolist() == [10, 30]
    assert bars["not trained"][2:] == ([8, 8], [32, 32])


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


def test_teachers_keep_their_order_where_some_were_not_asked_everywhere():
    kept = retention.compare(
        choice(**{name: TAUGHT[name] for name in TAUGHT if "smaller" not in name})
    )
    harder = kept[kept.teacher != "self-distillation"].assign(eval_prompt="one-shot", f1=1.0)
    drawn = figures.choice_figure(
        pd.concat([kept, harder]), retention.by_seed(choice(**{"fine-tuned": 0.6}))
    )
    assert list(drawn.axes[0].containers[0][0].get_ydata()) == [
        "base",
        "self-distillation",
        "none (gold only)",
        "fine-tuned",
    ]


def test_the_figure_of_prompting_has_a_line_per_way_of_training_and_a_dot_per_seed(tmp_path):
    each = []
    for seed, (trained, asked), role in product(
        (0, 1), product(("zero-shot", "one-shot"), repeat=2), ("teacher", "student")
    ):
        each.append(
            choice()[lambda rows: (rows.role == "teacher") & (rows.teacher == "fine-tuned")].assign(
                seed=seed, train_prompt=trained, eval_prompt=asked, role=role
            )
        )
    rows = pd.concat(each)
    drawn = figures.modes_figure(retention.compare(rows), retention.by_seed(rows))
    panel = drawn.axes[0]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == [
        "trained zero-shot",
        "trained one-shot",
    ]
    dots = [line for line in panel.lines if line.get_marker() == "."]
    assert sorted(len(line.get_xdata()) for line in dots) == [4, 4]


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
    else:
        drawn = figures.prompting_mode(table("prompting"), table("seeds"), table("traits"))
    return {name: figure for name, (figure, _) in drawn.items()}


@pytest.mark.parametrize("notebook", ["capacity_gap", "teacher_choice", "prompting_mode"])
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
