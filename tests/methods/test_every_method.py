"""What holds of every method in the folder: header, options, gradients, micro-batches, checkpoints,
two processes."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import short_training
import torch
from launcher import TORCHRUN
from miniatures import model, packs
from patience import PATIENCE
from short_training import (
    EVERY,
    VOCABULARY,
    asker,
    curves_of,
    new_rows_of,
    rows_of,
    teacher_of,
    trained,
)

from studylib.core import filesystem
from studylib.core.errors import StudyError
from studylib.core.project import root
from studylib.data import examples
from studylib.evaluation.ask import Models
from studylib.methods import options, stages
from studylib.methods.base import Sampler
from studylib.training import loop

HEADER = re.compile(
    r"^(?P<name>[^\n]+)  .*(arXiv|20\d\d).*\n\n {4}L = .+\n\nHere: .+Left out: .+Source: .+"
    r"Run: study run params/tiny/methods\.yaml --only (?P<only>\w+)\s+"
    r"Test: tests/methods/test_(?P<test>\w+)\.py\s*$",
    re.DOTALL,
)


@pytest.mark.parametrize("name", stages.known())
def test_its_header_says_paper_formula_what_is_left_out_and_how_to_run_it(name):
    text = inspect.getdoc(sys.modules[stages.known()[name].__module__])
    header = HEADER.match(text)
    assert header, f"{name}: {text}"
    assert header["only"] == header["test"] == name
    assert (root() / "tests" / "methods" / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", stages.known())
def test_its_options_have_types_that_take_their_defaults(name):
    owner = stages.known()[name]
    for option, parameter in options.of(owner).items():
        value = options.check_value(name, option, parameter.annotation, parameter.default)
        assert value == parameter.default


def step(method, rows, micro, student=None):
    """The losses of a step on these rows, and the gradient of the student."""
    net = student or model("llama")
    teachers = [teacher_of(method, model("llama", seed=1))] if method.signals.supervise else []
    method.student(net, teachers)
    values = loop.backward(net, rows, method, teachers, VOCABULARY, micro)
    return values, {
        name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None
    }


def test_its_losses_and_gradients_are_finite_and_do_not_depend_on_micro_batches(method):
    rows = rows_of(type(method))[:4]
    values, gradient = step(method, rows, 0)
    assert gradient and all(torch.isfinite(grad).all() for grad in gradient.values())
    assert torch.isfinite(torch.tensor(list(values.values()))).all()
    for micro in (1, 2) if method.unit != "step" else ():
        micro_values, micro_gradient = step(method, rows, micro)
        assert micro_values == pytest.approx(values, rel=1e-4, abs=1e-6)
        for name, expected in gradient.items():
            torch.testing.assert_close(micro_gradient[name], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("term", ["loss", "label", "seed"])
def test_a_term_that_is_called_as_a_column_of_curves_is_refused(term, monkeypatch):
    method = stages.parse([{"steps": 1, "losses": {"cross_entropy": 1.0}}])[0].method()
    values = lambda student, teachers: {term: student.logits.sum()}  # noqa: E731
    monkeypatch.setattr(method, "loss", values)
    with pytest.raises(StudyError, match=f"the loss term '{term}' is called as a column"):
        step(method, rows_of(type(method))[:2], 0)


class Stop(Exception):
    """Stands for a killed process."""


@pytest.mark.parametrize("name", stages.known())
def test_a_training_that_was_stopped_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", -1)
    planned = stages.parse([{"steps": 3, "method": name}])
    rows = rows_of(type(planned[0].method()))
    curve, weights = trained(planned, rows, tmp_path / "a")

    def stop(step, values):
        if step == 2:
            raise Stop

    with pytest.raises(Stop):
        trained(planned, rows, tmp_path / "b", report=stop)
    again, same = trained(planned, rows, tmp_path / "b", seed=9)
    assert again == curve and torch.equal(weights, same)


def test_a_later_stage_goes_on_with_what_is_trained_beside_the_student():
    training = set()
    for name in stages.known():
        curriculum = stages.Curriculum(stages.parse([{"steps": 1, "method": name}] * 2))
        teacher = teacher_of(curriculum.methods[0], model("llama", hidden_size=48))
        curriculum.student(model("llama"), [teacher])
        first, second = (dict(method.state.named_parameters()) for method in curriculum.methods)
        assert first.keys() == second.keys(), name
        assert all(second[key] is first[key] for key in first), name
        training |= {name} if first else set()
    assert {"dm_codec", "ernie_tiny", "multi_granularity", "vlm_ood"} <= training


def test_the_same_seed_makes_the_same_rows(method):
    for first, second in zip(rows_of(type(method)), new_rows_of(method), strict=True):
        assert first.digest == second.digest


def test_answers_that_it_asks_for_are_counted(method, monkeypatch):
    """By model; of `data`, where nothing else is asked, also how many."""
    asked = {"answers": Counter(), "log_likelihood": Counter()}
    originals = {what: getattr(Models, what) for what in asked}

    def counted(what):
        def call(self, examples, **how):
            asked[what][how["model"]] += len(examples) * how.get("number", 1)
            return originals[what](self, examples, **how)

        return call

    for what in asked:
        monkeypatch.setattr(Models, what, counted(what))
    rows, ask = packs(), asker(method)
    learnt = [examples.of(branch.question) for row in rows[:3] for branch in row.asked]
    method.data(learnt, ask)
    generated = method.generates("data")
    assert generated.keys() == asked["answers"].keys() | asked["log_likelihood"].keys()
    if not asked["log_likelihood"]:
        assert asked["answers"] == {name: n * len(learnt) for name, n in generated.items()}
    for counter in asked.values():
        counter.clear()
    for step in range(6):
        method.batch(Sampler(rows, [[step]] * 6, seed=0, step=step), ask)
    assert method.generates("batch").keys() >= asked["answers"].keys()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hinton", ""),
        ("redi", "the teacher's answers, 4 a question"),
        ("minillm", "the student's answers, 1 a question and step"),
        ("several_teachers", ""),
        ("ernie_tiny", "the base model"),
        ("context_distillation", "a one-shot teacher"),
    ],
)
def test_the_data_that_it_needs_are_named(name, words):
    assert stages.extra_data(stages.parse(stages.known()[name].recipe(12))) == words
    assert stages.extra_data(stages.parse(stages.gold(12))) == ""


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(tmp_path):
    """Of every method, in one call of torch's launcher."""
    file = tmp_path / "two" / "curves.json"
    file.parent.mkdir()
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, *TORCHRUN, short_training.__file__, str(file)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    curves = json.loads(file.read_text())
    for name, curve in curves_of(EVERY, tmp_path / "one").items():
        assert len(curve) == len(curves[name]) == 3
        for step, other in zip(curve, curves[name], strict=True):
            assert other == pytest.approx(step, rel=1e-4, abs=1e-6), name
