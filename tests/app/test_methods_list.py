"""The table of methods, with what each gains in `small`."""

import pandas as pd
from invented import rows

from studylib.analysis import methods_table
from studylib.app import methods_list, readme
from studylib.core.labels import CONTROL, GOLD_ONLY, METHOD, STUDENT
from studylib.store import exports


def test_gains_of_the_first_test_set_stand_beside_the_methods(tmp_path):
    control = {"teacher": GOLD_ONLY, "objective": "cross_entropy"}
    frames = [
        frame
        for test_set, gained in (("near", 0.2), ("far", -0.3))
        for frame in (
            rows(CONTROL, 0.5, articles=40, test_set=test_set, **control),
            rows(STUDENT, 0.5, articles=40, test_set=test_set),
            rows(
                STUDENT,
                0.5 + gained,
                articles=40,
                test_set=test_set,
                objective="redi",
                arm=METHOD,
            ),
        )
    ]
    costs = pd.DataFrame(columns=["family", "student", "objective", "steps", "extra_data"])
    costs = costs.assign(training_flops=0.0, answer_flops=0.0)
    table = methods_table.compare(pd.concat(frames, ignore_index=True), costs)
    exports.save(table, tmp_path / "methods.csv")
    gains, test_set = readme._gains(tmp_path)
    assert gains["redi"].startswith("+20.0")
    lines = methods_list.table(gains, test_set).splitlines()
    assert lines[0].endswith(f"{methods_list.GAIN}, near |")
    (redi,) = [line for line in lines if line.startswith("| [`redi`]")]
    (hinton,) = [line for line in lines if line.startswith("| [`hinton`]")]
    assert redi.endswith(f"{gains['redi']} |") and hinton.endswith("– |")


def test_without_results_there_is_no_column(tmp_path):
    assert readme._gains(tmp_path / "methods") == ({}, "")
    assert methods_list.GAIN not in methods_list.table({}) == methods_list.table()
