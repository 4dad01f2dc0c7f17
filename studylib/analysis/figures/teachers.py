"""What a student becomes under other teachers: larger ones, better ones, or none."""

import pandas as pd
from matplotlib.figure import Figure

from studylib.analysis import formats, roles
from studylib.analysis.figures import look
from studylib.analysis.retention import SETTING
from studylib.core.labels import OTHER_LOSSES

PANEL = ["family", "test_set", "eval_prompt"]
FEW_TEACHERS = 3  # of fewer no panel is drawn: it would say nothing of teachers


def teacher_sizes_figure(sweep: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """F1 of one student under ever larger teachers, and the teachers' own, against the ratio of
    their parameters. There is a panel per family, test set and prompting. Intervals are shown, and
    a dot per seed where there are several (`retention.by_seed`)."""
    drawn, panels = look.panels(
        sweep,
        PANEL,
        2.4,
        legend=0.4,
        label="F1 of one student against the size of its teacher, with intervals, and the"
        " teachers' own F1",
        sharex=True,
    )
    students = seeds[(seeds.init == "fine-tuned") & (seeds.role == "student")]
    students = students[roles.arms(students) != OTHER_LOSSES]
    for axis, names, group in panels:
        axis.errorbar(
            group.ratio,
            group.f1,
            yerr=look.reach(group),
            fmt="o-",
            markersize=5,
            label="the student",
            **look.BARS,
        )
        axis.plot(
            group.ratio, group.teacher_f1, "s:", color="0.4", markersize=4, label="its teacher"
        )
        each = students.merge(group[[*SETTING, "student", "teacher", "ratio"]])
        look.seed_dots(axis, each, each.ratio, each.f1)
        most = group[["f1", "f1_high", "teacher_f1"]].max().max()
        axis.set(
            xlabel="parameters of teacher / student",
            ylabel="F1",
            title=formats.titled(sweep, *names),
            ylim=(0, 1.1 * max(1.0, most)),
        )
    look.legend(drawn)
    return drawn


def choice_figure(kept: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """F1 of a student by its teacher, the best on top, with intervals. There is a panel per test
    set and prompting, and a dot per seed where there are several (`retention.by_seed`). The
    fine-tuned teacher itself is a line with a band."""
    students, seeds = (table[table.role != "teacher"] for table in (kept, seeds))
    best_last = list(students.drop_duplicates("teacher").sort_values("f1").teacher)  # first asked
    drawn, panels = look.panels(
        students,
        PANEL,
        0.9 + 0.2 * len(best_last),
        label="F1 of the student by who taught it, with intervals of its own (not paired), and"
        " that of the fine-tuned teacher",
        sharex=True,
        sharey=True,
    )
    for axis in drawn.axes[::2]:
        axis.set_ylabel("teacher")
    teachers = kept[kept.role == "teacher"].set_index(PANEL)
    for axis, names, group in panels:
        group = group.set_index("teacher").reindex(best_last)
        look.teacher_line(axis.axvline, axis.axvspan, teachers.loc[names])
        axis.errorbar(
            group.f1,
            best_last,
            xerr=look.reach(group),
            fmt="o",
            color=look.PALETTE[0],
            markersize=5,
            **look.BARS,
        )
        each = seeds[(seeds[PANEL] == list(names)).all(axis=1)]
        look.seed_dots(axis, each, each.f1, each.teacher)
        axis.set_title(formats.titled(kept, *names), fontsize="medium")
        axis.set_xlabel("F1 (line and band: fine-tuned teacher)", fontsize="small")
        axis.margins(y=0.1)
    return drawn


def of_several_teachers(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores (`teacher_vs_student.compare`) of panels with three teachers or more."""
    return scores[scores.groupby(PANEL).teacher.transform("nunique") >= FEW_TEACHERS]


def teacher_vs_student_figure(scores: pd.DataFrame) -> Figure:
    """F1 of teachers, in the prompt in which they taught, and of their students
    (`teacher_vs_student.compare`, with the bounds of F1), these with intervals. There is a panel
    per test set and prompting of the students."""
    drawn, panels = look.panels(
        scores,
        PANEL,
        2.4,
        legend=0.6,
        label="F1 of students, with 95 % intervals, against F1 of their teachers in the prompt in"
        " which these taught",
        sharex=True,
        sharey=True,
    )
    teachers = list(scores.teacher.unique())
    for axis, names, group in panels:
        for name, row in group.groupby("teacher", sort=False):
            axis.errorbar(
                row.teacher_f1,
                row.student_f1,
                yerr=look.reach(row, "student_f1"),
                label=name,
                markersize=6,
                elinewidth=look.BARS["elinewidth"],
                **look.mark(teachers.index(name)),
            )
        axis.set_title(formats.titled(scores, *names), fontsize="medium")
        axis.set(xlabel="teacher's F1, as it taught", ylabel=f"student's F1, {names[-1]}")
    look.legend(drawn, "Bars: 95 % intervals.")
    return drawn
