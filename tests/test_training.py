"""The loop: micro-batches, resuming, learning, and a student from stored states."""

import pytest
import torch
from miniatures import FAMILIES, model, packs, tokenizer

from studylib import cutting, models, objectives, teaching, training
from studylib.errors import StudyError

VOCABULARY = len(tokenizer())
DISTIL = {"forward_kl": 1.0, "cross_entropy": 0.5}


def teacher_of(net, states=None, aligned=()):
    return training.Teacher(lambda hidden: models.head(net, hidden, VOCABULARY), states or teaching.LiveStates(net), net, aligned)


def gradients(net):
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("weights", [{"cross_entropy": 1.0}, DISTIL, {"hidden_mse": 1.0}, DISTIL | {"hidden_mse": 1.0}])
def test_the_gradient_does_not_depend_on_micro_batches(weights):
    rows, guide, found = packs()[:8], teacher_of(model("llama", seed=1), aligned=[0, 1, 2, 3]), []
    for micro in (0, 1, 2, 4, 3):
        net = model("llama")
        values = training.backward(net, rows, weights, guide, VOCABULARY, micro)
        found.append((values["loss"], gradients(net)))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        for name, expected in found[0][1].items():
            torch.testing.assert_close(gradient[name], expected, rtol=1e-3, atol=1e-6)


def test_a_step_is_one_mean_over_all_its_answer_tokens():
    net, rows = model("gpt_neox"), packs()[:5]
    total = sum(training.losses(net, [row], {"cross_entropy": 1.0}, None, VOCABULARY)["cross_entropy"].item() for row in rows)
    values = training.backward(net, rows, {"cross_entropy": 1.0}, None, VOCABULARY)
    assert values["loss"] == pytest.approx(total / sum(len(row.targets) for row in rows), rel=1e-5)


class Stop(Exception):
    """Stands for a killed process."""


@pytest.mark.parametrize("stop_after", [1, 3, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("weights", [{"cross_entropy": 1.0}, DISTIL | {"hidden_mse": 1.0}])
def test_a_stopped_training_ends_with_the_same_bits(tmp_path, monkeypatch, stop_after, precision, weights):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    recipe = training.Recipe(steps=6, packs=3, rate=1e-3, seed=5, micro=2, precision=precision)
    guide = teacher_of(model("qwen2", seed=1), aligned=[0, 1, 2, 3])
    fixed = dict(weights=weights, recipe=recipe, vocabulary=VOCABULARY, teacher=guide)

    undisturbed = model("qwen2")
    curve = training.train(undisturbed, packs(), work=tmp_path / "a", **fixed)

    def report(step, values):
        if step == stop_after + 1:
            raise Stop

    with pytest.raises(Stop):
        training.train(model("qwen2"), packs(), work=tmp_path / "b", report=report, **fixed)
    assert [folder.name for folder in (tmp_path / "b").iterdir()] == [f"step-{stop_after}"]
    resumed = model("qwen2", seed=9)
    steps = []
    assert training.train(resumed, packs(), work=tmp_path / "b", report=lambda step, values: steps.append(step), **fixed) == curve
    assert steps[0] == stop_after + 1, "it goes on, and does not begin again"
    for (name, expected), (_, found) in zip(undisturbed.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(expected, found), name


def test_a_half_written_checkpoint_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    fixed = dict(
        weights={"cross_entropy": 1.0},
        recipe=training.Recipe(steps=2, packs=3, rate=1e-3, seed=5),
        vocabulary=VOCABULARY,
    )
    training.train(model("qwen2"), packs(), work=tmp_path, **fixed)
    (tmp_path / "step-9.draft").mkdir()
    (tmp_path / "step-9.draft" / "curve.json").write_text("[{}")
    assert len(training.train(model("qwen2"), packs(), work=tmp_path, **fixed)) == 2


def test_same_seed_same_bits_and_another_seed_others(tmp_path):
    def trained(seed):
        net = model("llama")
        training.train(
            net,
            packs(),
            weights={"cross_entropy": 1.0},
            recipe=training.Recipe(3, 4, 1e-3, seed),
            vocabulary=VOCABULARY,
            work=tmp_path / str(seed),
        )
        return torch.cat([p.flatten() for p in net.parameters()])

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_from_stored_states_equals_one_with_the_teacher_at_hand(tmp_path, family):
    teacher, rows, trained = model(family, seed=1), packs(), []
    teaching.store(teacher, rows, tmp_path, iter)
    for served in (teaching.LiveStates(teacher), teaching.StoredStates(tmp_path.glob("*.safetensors"))):
        net = cutting.cut(model(family), [0, 3])
        training.train(
            net,
            rows,
            weights=DISTIL,
            recipe=training.Recipe(4, 4, 1e-3, 0),
            vocabulary=VOCABULARY,
            work=tmp_path / "work",
            teacher=teacher_of(teacher, served),
        )
        trained.append(torch.cat([p.flatten() for p in net.parameters()]))
    assert torch.equal(*trained)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_to_learn_where_the_student_is_the_teacher(family):
    net = model(family)
    guide = teacher_of(model(family), aligned=[0, 1, 2, 3])
    found = training.losses(net, packs()[:4], {"forward_kl": 1.0, "hidden_mse": 1.0}, guide, VOCABULARY)
    for name, value in found.items():
        assert value.item() == pytest.approx(0, abs=1e-4), name


def test_hidden_states_are_compared_with_the_aligned_blocks():
    """A student cut after two blocks gives the teacher's first two blocks exactly, and the norm of its last."""
    teacher = model("gpt_neox")
    student = cutting.cut(teacher, [0, 1])
    right = training.losses(student, packs()[:4], {"hidden_mse": 1.0}, teacher_of(teacher, aligned=[0, 3]), VOCABULARY)["hidden_mse"].item()
    wrong = training.losses(student, packs()[:4], {"hidden_mse": 1.0}, teacher_of(teacher, aligned=[1, 3]), VOCABULARY)["hidden_mse"].item()
    final = teaching.hidden_states
    batch = training.collate(packs()[:4])
    with torch.no_grad():
        alone = objectives.hidden_mse(final(student, batch)[batch.real], final(teacher, batch)[batch.real]).sum() / 2
    assert right == pytest.approx(alone.item(), rel=1e-4)
    assert wrong > right * 1.05


def test_feature_losses_do_not_see_the_padding():
    teacher = model("qwen2", seed=1)
    net, rows = cutting.cut(teacher, [0, 2]), packs()[:6]
    guide = teacher_of(teacher, aligned=[1, 3])
    joint = training.losses(net, rows, {"hidden_mse": 1.0}, guide, VOCABULARY)["hidden_mse"].item()
    each = [training.losses(net, [row], {"hidden_mse": 1.0}, guide, VOCABULARY)["hidden_mse"].item() for row in rows]
    assert joint == pytest.approx(sum(each), rel=1e-4)


def test_padded_vocabularies_give_the_same_losses():
    """Teacher and student whose heads have 0, 27 and 155 rows more than the tokenizer, filled so that they would win."""
    plain, found = (model("qwen2", seed=1), model("qwen2", seed=2)), []
    for padding in (0, 27, 155):
        pair = [model("qwen2", padding=padding) for _ in plain]
        for padded, source in zip(pair, plain, strict=True):
            for (name, own), value in zip(padded.named_parameters(), source.parameters(), strict=True):
                with torch.no_grad():
                    own.fill_(3.0)[tuple(slice(size) for size in value.shape)] = value
                assert padding == 0 or own.shape == value.shape or own.shape[0] == VOCABULARY + padding, name
        values = training.losses(pair[1], packs()[:4], DISTIL, teacher_of(pair[0]), VOCABULARY)
        found.append({name: value.item() for name, value in values.items()})
    assert found[1] == pytest.approx(found[0], rel=1e-5) and found[2] == pytest.approx(found[0], rel=1e-5)


def test_states_are_the_same_bits_beside_a_student_in_lower_precision():
    net, row = model("llama"), packs()[0]
    expected = teaching.answer_states(net, row)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teaching.LiveStates(net)(row), expected)


def test_lower_precision_is_near_and_leaves_the_weights_in_single(tmp_path):
    curves = {}
    for precision in ("fp32", "bf16"):
        net = model("llama")
        recipe = training.Recipe(4, 4, 1e-3, 0, precision=precision)
        curves[precision] = training.train(
            net, packs(), weights={"cross_entropy": 1.0}, recipe=recipe, vocabulary=VOCABULARY, work=tmp_path / precision
        )
        assert {p.dtype for p in net.parameters()} == {torch.float32}
    losses = [[entry["loss"] for entry in curve] for curve in curves.values()]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)


def test_states_of_another_row_are_refused(tmp_path):
    rows = packs()
    teaching.store(model("llama"), rows[:3], tmp_path, iter)
    served = teaching.StoredStates(tmp_path.glob("*.safetensors"))
    with pytest.raises(StudyError, match=rows[4].question_ids[0]):
        served(rows[4])


def test_storing_states_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "SHARD", 4)
    net, rows = model("llama"), packs()
    teaching.store(net, rows[:4], tmp_path, iter)
    first = next(tmp_path.glob("*.safetensors")).stat().st_mtime_ns
    teaching.store(net, rows, tmp_path, iter)
    assert (tmp_path / "states-00000.safetensors").stat().st_mtime_ns == first
    served = teaching.StoredStates(tmp_path.glob("*.safetensors"))
    for row in rows:
        assert torch.equal(served(row), teaching.answer_states(net, row))


def test_a_tuned_model_knows_what_it_was_shown(tmp_path):
    net, rows = model("llama", initializer_range=0.05), packs()[:2]
    curve = training.train(
        net,
        rows,
        weights={"cross_entropy": 1.0},
        recipe=training.Recipe(60, 2, 1e-2, 0),
        vocabulary=VOCABULARY,
        work=tmp_path,
    )
    assert curve[-1]["loss"] < 0.1 * curve[0]["loss"]


def test_a_distilled_student_comes_nearer_to_its_teacher(tmp_path):
    teacher, net, rows = model("llama", seed=1), model("llama", seed=2), packs()[:4]
    curve = training.train(
        net,
        rows,
        weights={"forward_kl": 1.0},
        recipe=training.Recipe(30, 4, 3e-3, 0),
        vocabulary=VOCABULARY,
        work=tmp_path,
        teacher=teacher_of(teacher),
    )
    assert curve[-1]["forward_kl"] < 0.5 * curve[0]["forward_kl"]


def test_dev_is_measured_at_even_points(tmp_path):
    recipe = training.Recipe(6, 2, 1e-3, 0)
    curve = training.train(
        model("llama"),
        packs(),
        weights={"cross_entropy": 1.0},
        recipe=recipe,
        vocabulary=VOCABULARY,
        work=tmp_path,
        evaluate=lambda net: {"dev_f1": 1.0},
        evaluations=2,
    )
    assert [entry["step"] for entry in curve if "dev_f1" in entry] == [3, 6]


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    recipe = training.Recipe(100, 1, 1e-2, 0)
    rates = [recipe.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-3) and rates[9] == pytest.approx(1e-2)
    assert max(rates) == pytest.approx(1e-2) and rates[-1] == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"packs": 0},
        {"rate": 0.0},
        {"rate": 2.0},
        {"micro": -1},
        {"precision": "fp16"},
        {"steps": "x"},
        {"seed": -1},
        {"packs": 1.5},
        {"rate": "1"},
    ],
)
def test_an_impossible_recipe_is_refused(wrong):
    with pytest.raises(StudyError):
        training.Recipe(**{"steps": 1, "packs": 1, "rate": 1e-3, "seed": 0} | wrong)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    net = model("llama")
    net.get_output_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(StudyError, match="learning rate"):
        training.train(
            net,
            packs(),
            weights={"cross_entropy": 1.0},
            recipe=training.Recipe(1, 1, 1e-3, 0),
            vocabulary=VOCABULARY,
            work=tmp_path,
        )


def test_distilling_without_a_teacher_is_refused(tmp_path):
    with pytest.raises(StudyError, match="needs a teacher"):
        training.train(
            model("llama"),
            packs(),
            weights=DISTIL,
            recipe=training.Recipe(1, 1, 1e-3, 0),
            vocabulary=VOCABULARY,
            work=tmp_path,
        )
