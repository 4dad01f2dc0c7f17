"""The loop: micro-batches, resuming, learning, and a student from cached states."""

import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from miniatures import FAMILIES, built, model, packs, tokenizer, unpack

from studylib.core import filesystem, parallel
from studylib.core.errors import StudyError
from studylib.data import packing
from studylib.methods import features, objective, views
from studylib.methods import stages as method_stages
from studylib.models import parts, prune
from studylib.training import checkpoint, loop
from studylib.training import teachers as training_teachers
from studylib.training.config import Recipe

VOCABULARY = len(tokenizer())
DISTIL = {"forward_kl": 1.0, "cross_entropy": 0.5}


class Live:
    """Serves a teacher's states computed as they are asked for."""

    def __init__(self, net, tokens="answers", precision="fp32"):
        self.net, self.tokens, self.precision = net.eval(), tokens, precision

    def __call__(self, pack):
        return training_teachers.STATES[self.tokens](self.net, pack, self.precision)


def stages(losses, steps=1):
    return method_stages.parse([{"steps": steps, "losses": losses}])


def mixture(losses):
    return objective.Objective(losses=losses)


def summed(net, rows, losses, *guide):
    """Each loss of a mixture, summed over the rows."""
    return loop.losses(net, rows, mixture(losses), guide, VOCABULARY)


def teacher_of(net, states=None, aligned=()):
    return views.Teacher(
        lambda hidden: parts.head(net, hidden, VOCABULARY), states or Live(net), net, aligned
    )


def gradients(net):
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


MIXTURES = [
    {"cross_entropy": 1.0},
    DISTIL,
    {"hidden_mse": 1.0},
    DISTIL | {"hidden_mse": 1.0},
    {
        "forward_kl": {"tokens": "all"},
        "cross_entropy": {"weight": 0.5, "tokens": "all"},
        "token_relation": 1.0,
    },
    {"taid": 1.0, "mi_alpha": {"tokens": "answers"}, "hidden_cosine": 0.1},
]


@pytest.mark.parametrize("weights", MIXTURES)
def test_the_gradient_does_not_depend_on_micro_batches(weights):
    rows, guide, steps = packs()[:8], teacher_of(model("llama", seed=1), aligned=[0, 1, 2, 3]), []
    for micro in (0, 1, 2, 4, 3):
        net = model("llama")
        values = loop.backward(net, rows, mixture(weights), [guide], VOCABULARY, micro)
        steps.append((values["loss"], gradients(net)))
    for loss, gradient in steps[1:]:
        assert loss == pytest.approx(steps[0][0], rel=1e-5)
        for name, expected in steps[0][1].items():
            torch.testing.assert_close(gradient[name], expected, rtol=1e-3, atol=1e-6)


def test_a_step_is_one_mean_over_all_its_answer_tokens():
    net, rows = model("gpt_neox"), packs()[:5]
    total = sum(summed(net, [row], {"cross_entropy": 1.0})["cross_entropy"].item() for row in rows)
    values = loop.backward(net, rows, mixture({"cross_entropy": 1.0}), (), VOCABULARY)
    assert values["loss"] == pytest.approx(
        total / sum(len(row.answers.targets) for row in rows), rel=1e-5
    )


class Stop(Exception):
    """Stands for a killed process."""


def resume(work, **fixed):
    """Train from the checkpoint in a folder: the model, which began otherwise, its curve, and the
    steps that were taken."""
    net, steps = model("qwen2", seed=9), []
    curve = loop.train(
        net, packs(), work=work, report=lambda step, values: steps.append(step), **fixed
    )
    return net, curve, steps


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [1, 3, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("weights", "width"),
    [({"cross_entropy": 1.0}, 32), ({"taid": {"alpha": 0.5}, "hidden_mse": 1.0}, 48)],
)
def test_a_stopped_training_ends_with_the_same_bits(
    tmp_path, monkeypatch, stop_after, precision, weights, width
):
    """Within a stage and at the end of one, with dev measured between; TAID's t and the projections
    to a wider teacher are part of what goes on."""
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", -1)
    recipe = Recipe(batch_size=3, lr=1e-3, seed=5, micro_batch_size=2, precision=precision)
    both_stages = stages(weights, 3) + stages({"cross_entropy": 1.0} | weights, 3)
    guide = teacher_of(model("qwen2", seed=1, hidden_size=width), aligned=[0, 1, 2, 3])
    watched = loop.Dev(packs()[:2], [guide], lambda current: {"dev_f1": 1.0}, times=3)
    fixed = dict(
        stages=both_stages, recipe=recipe, vocabulary=VOCABULARY, teachers=[guide], dev=watched
    )

    undisturbed = model("qwen2")
    curve = loop.train(undisturbed, packs(), work=tmp_path / "a", **fixed)

    def report(step, values):
        if step == stop_after + 1:
            raise Stop

    with pytest.raises(Stop):
        loop.train(model("qwen2"), packs(), work=tmp_path / "b", report=report, **fixed)
    assert [folder.name for folder in (tmp_path / "b").iterdir()] == [f"step-{stop_after}"]
    resumed, resumed_curve, steps = resume(tmp_path / "b", **fixed)
    assert resumed_curve == curve
    assert steps[0] == stop_after + 1, "it goes on, and does not begin again"
    for (name, expected), (_, weight) in zip(
        undisturbed.named_parameters(), resumed.named_parameters(), strict=True
    ):
        assert torch.equal(expected, weight), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "call", "goes_on"),
    [
        (checkpoint, "save_file", 2, 2),
        (checkpoint, "write_sealed", 2, 2),
        (Path, "rename", 2, 2),
        (checkpoint.shutil, "rmtree", 3, 3),
    ],
)
def test_a_training_stopped_while_it_writes_a_checkpoint_ends_with_the_same_bits(
    tmp_path, monkeypatch, owner, name, call, goes_on
):
    """Wherever in the second one: before it is complete the first one counts, afterwards it."""
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", -1)
    fixed = dict(
        stages=stages({"cross_entropy": 1.0}, 4),
        recipe=Recipe(batch_size=3, lr=1e-3, seed=5),
        vocabulary=VOCABULARY,
    )
    undisturbed, calls = model("qwen2"), []
    curve = loop.train(undisturbed, packs(), work=tmp_path / "a", **fixed)
    real = getattr(owner, name)

    def dies(*given, **more):
        calls.append(given)
        if len(calls) == call:
            raise Stop
        return real(*given, **more)

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(owner, name, dies)
        loop.train(model("qwen2"), packs(), work=tmp_path / "b", **fixed)
    resumed, resumed_curve, steps = resume(tmp_path / "b", **fixed)
    assert resumed_curve == curve and steps[0] == goes_on
    assert all(
        torch.equal(p, q)
        for p, q in zip(undisturbed.parameters(), resumed.parameters(), strict=True)
    )


@pytest.mark.parametrize(("available", "count"), [(24, 0), (26, 0), (23, 3)])
def test_memory_is_given_back_after_a_step_where_little_is_left(
    available: int, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = []
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", float("inf"))
    memory = SimpleNamespace(available=available, total=96)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(parallel, "give_back", lambda: calls.append(None))
    loop.train(
        model("llama"),
        packs(),
        stages=stages({"cross_entropy": 1.0}, 3),
        recipe=Recipe(4, 1e-3, 0),
        vocabulary=VOCABULARY,
        work=tmp_path,
    )
    assert len(calls) == count


def test_same_seed_same_bits_and_another_seed_others(tmp_path):
    def trained(seed):
        net = model("llama")
        loop.train(
            net,
            packs(),
            stages=stages({"cross_entropy": 1.0}, 3),
            recipe=Recipe(4, 1e-3, seed),
            vocabulary=VOCABULARY,
            work=tmp_path / str(seed),
        )
        return torch.cat([p.flatten() for p in net.parameters()])

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_student_from_stored_states_equals_one_with_the_teacher_at_hand(
    tmp_path, family, precision
):
    teacher, rows, trained = model(family, seed=1), packs(), []
    training_teachers.store(teacher, rows, tmp_path, iter, precision=precision)
    live, stored = (
        Live(teacher, precision=precision),
        training_teachers.CachedStates(tmp_path.glob("*.safetensors")),
    )
    assert {stored(row).dtype for row in rows} == {torch.float32}
    assert torch.equal(stored(rows[0]), training_teachers.answer_states(teacher, rows[0])) == (
        precision == "fp32"
    )
    for served in (live, stored):
        net = prune.cut(model(family), [0, 3])
        loop.train(
            net,
            rows,
            stages=stages(DISTIL, 4),
            recipe=Recipe(4, 1e-3, 0, precision=precision),
            vocabulary=VOCABULARY,
            work=tmp_path / "work",
            teachers=[teacher_of(teacher, served)],
        )
        trained.append(torch.cat([p.flatten() for p in net.parameters()]))
    assert torch.equal(*trained)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_to_learn_where_the_student_is_the_teacher(family):
    net = model(family)
    guide = teacher_of(model(family), aligned=[0, 1, 2, 3])
    losses = summed(net, packs()[:4], {"forward_kl": 1.0, "hidden_mse": 1.0}, guide)
    for name, value in losses.items():
        assert value.item() == pytest.approx(0, abs=1e-4), name


def test_hidden_states_are_compared_with_the_aligned_blocks():
    """A student cut after two blocks gives the teacher's first two blocks exactly, and the norm of
    its last."""
    teacher = model("gpt_neox")
    student = prune.cut(teacher, [0, 1])
    right = summed(student, packs()[:4], {"hidden_mse": 1.0}, teacher_of(teacher, aligned=[0, 3]))[
        "hidden_mse"
    ].item()
    wrong = summed(student, packs()[:4], {"hidden_mse": 1.0}, teacher_of(teacher, aligned=[1, 3]))[
        "hidden_mse"
    ].item()
    final = parts.hidden_states
    batch = packing.collate(packs()[:4])
    with torch.no_grad():
        alone = (
            features.hidden_mse(
                final(student, batch)[batch.real], final(teacher, batch)[batch.real]
            ).sum()
            / 2
        )
    assert right == pytest.approx(alone.item(), rel=1e-4)
    assert wrong > right * 1.05


def test_feature_losses_do_not_see_the_padding():
    teacher = model("qwen2", seed=1)
    net, rows = prune.cut(teacher, [0, 2]), packs()[:6]
    guide = teacher_of(teacher, aligned=[1, 3])
    joint = summed(net, rows, {"hidden_mse": 1.0}, guide)["hidden_mse"].item()
    per_row = [summed(net, [row], {"hidden_mse": 1.0}, guide)["hidden_mse"].item() for row in rows]
    assert joint == pytest.approx(sum(per_row), rel=1e-4)


def test_padded_vocabularies_give_the_same_losses():
    """Teacher and student whose heads have 0, 27 and 155 rows more than the tokenizer, filled so
    that they would win."""
    plain, losses = (model("qwen2", seed=1), model("qwen2", seed=2)), []
    for padding in (0, 27, 155):
        pair = [model("qwen2", padding=padding) for _ in plain]
        for padded, source in zip(pair, plain, strict=True):
            for (name, weight), value in zip(
                padded.named_parameters(), source.parameters(), strict=True
            ):
                with torch.no_grad():
                    weight.fill_(3.0)[tuple(slice(size) for size in value.shape)] = value
                assert (
                    padding == 0
                    or weight.shape == value.shape
                    or weight.shape[0] == VOCABULARY + padding
                ), name
        values = summed(pair[1], packs()[:4], DISTIL, teacher_of(pair[0]))
        losses.append({name: value.item() for name, value in values.items()})
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and losses[2] == pytest.approx(
        losses[0], rel=1e-5
    )


def test_states_are_the_same_bits_beside_a_student_in_lower_precision():
    net, row = model("llama"), packs()[0]
    expected = training_teachers.answer_states(net, row)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Live(net)(row), expected)


def test_lower_precision_is_near_and_leaves_the_weights_in_single(tmp_path):
    curves = {}
    for precision in ("fp32", "bf16"):
        net = model("llama")
        recipe = Recipe(4, 1e-3, 0, precision=precision)
        curves[precision] = loop.train(
            net,
            packs(),
            stages=stages({"cross_entropy": 1.0}, 4),
            recipe=recipe,
            vocabulary=VOCABULARY,
            work=tmp_path / precision,
        )
        assert {p.dtype for p in net.parameters()} == {torch.float32}
    losses = [[entry["loss"] for entry in curve] for curve in curves.values()]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)


def test_states_of_another_row_are_refused(tmp_path):
    rows = packs()
    training_teachers.store(model("llama"), rows[:3], tmp_path, iter)
    served = training_teachers.CachedStates(tmp_path.glob("*.safetensors"))
    with pytest.raises(StudyError, match=rows[4].question_ids[0]):
        served(rows[4])


def test_storing_states_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(training_teachers, "SHARD", 4)
    net, rows = model("llama"), packs()
    training_teachers.store(net, rows[:4], tmp_path, iter)
    first = next(tmp_path.glob("*.safetensors")).stat().st_mtime_ns
    training_teachers.store(net, rows, tmp_path, iter)
    assert (tmp_path / "states-00000.safetensors").stat().st_mtime_ns == first
    served = training_teachers.CachedStates(tmp_path.glob("*.safetensors"))
    for row in rows:
        assert torch.equal(served(row), training_teachers.answer_states(net, row))


def test_a_tuned_model_knows_what_it_was_shown(tmp_path):
    net, rows = model("llama", initializer_range=0.05), packs()[:2]
    curve = loop.train(
        net,
        rows,
        stages=stages({"cross_entropy": 1.0}, 60),
        recipe=Recipe(2, 1e-2, 0),
        vocabulary=VOCABULARY,
        work=tmp_path,
    )
    assert curve[-1]["loss"] < 0.1 * curve[0]["loss"]


def test_a_distilled_student_comes_nearer_to_its_teacher(tmp_path):
    teacher, net, rows = model("llama", seed=1), model("llama", seed=2), packs()[:4]
    curve = loop.train(
        net,
        rows,
        stages=stages({"forward_kl": 1.0}, 30),
        recipe=Recipe(4, 3e-3, 0),
        vocabulary=VOCABULARY,
        work=tmp_path,
        teachers=[teacher_of(teacher)],
    )
    assert curve[-1]["forward_kl"] < 0.5 * curve[0]["forward_kl"]


def test_dev_is_measured_at_even_points_by_its_own_losses_and_a_score(tmp_path):
    teacher, net, rows = model("llama", seed=1), model("llama"), packs()
    watched = loop.Dev(rows[:3], [teacher_of(teacher)], lambda current: {"dev_f1": 1.0}, times=2)
    fixed = dict(
        stages=stages(DISTIL, 6),
        recipe=Recipe(2, 1e-3, 0, micro_batch_size=2),
        vocabulary=VOCABULARY,
    )
    curve = loop.train(
        net, rows[3:], work=tmp_path, dev=watched, teachers=[teacher_of(teacher)], **fixed
    )
    assert [entry["step"] for entry in curve if "dev_f1" in entry] == [0, 3, 6]
    with torch.no_grad():
        expected = loop.backward(net, rows[:3], mixture(DISTIL), [teacher_of(teacher)], VOCABULARY)
    assert {name: curve[-1][f"dev_{name}"] for name in expected} == pytest.approx(
        expected, rel=1e-5
    )
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    recipe = Recipe(1, 1e-2, 0)
    rates = [recipe.rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1e-3) and rates[9] == pytest.approx(1e-2)
    assert max(rates) == pytest.approx(1e-2) and rates[-1] == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": 2.0},
        {"micro_batch_size": -1},
        {"precision": "fp16"},
        {"seed": -1},
        {"batch_size": 1.5},
        {"lr": "1"},
    ],
)
def test_an_impossible_recipe_is_refused(wrong):
    with pytest.raises(StudyError):
        Recipe(**{"batch_size": 1, "lr": 1e-3, "seed": 0} | wrong)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    net = model("llama")
    net.get_output_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(StudyError, match="learning rate"):
        loop.train(
            net,
            packs(),
            stages=stages({"cross_entropy": 1.0}, 1),
            recipe=Recipe(1, 1e-3, 0),
            vocabulary=VOCABULARY,
            work=tmp_path,
        )


def test_a_gradient_that_is_no_number_ends_the_run_before_it_reaches_the_weights():
    net = model("llama")
    learner = checkpoint.Learner(net, mixture({"cross_entropy": 1.0}), Recipe(1, 1e-3, 0), "")
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.full_like(p, float("inf"))
    with pytest.raises(checkpoint.Diverged, match="lower it"):
        learner.step(1e-3)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


def test_distilling_without_a_teacher_is_refused(tmp_path):
    with pytest.raises(StudyError, match="needs a teacher"):
        loop.train(
            model("llama"),
            packs(),
            stages=stages(DISTIL, 1),
            recipe=Recipe(1, 1e-3, 0),
            vocabulary=VOCABULARY,
            work=tmp_path,
        )


def test_a_checkpoint_of_other_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", -1)
    fixed = dict(stages=stages({"cross_entropy": 1.0}, 2), vocabulary=VOCABULARY, work=tmp_path)
    loop.train(model("llama"), packs(), recipe=Recipe(2, 1e-3, 0), **fixed)
    for rows, seed in ((packs()[1:], 0), (packs(), 1)):
        with pytest.raises(StudyError, match="other rows or of another order"):
            loop.train(model("llama"), rows, recipe=Recipe(2, 1e-3, seed), **fixed)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("state.safetensors", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        ("state.safetensors", lambda content: content[: len(content) // 2]),
        ("curve.json", lambda content: content.replace(b'"step": 1', b'"step": 2')),
        ("curve.json", lambda content: content[:20]),
        ("curve.json", lambda content: b""),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name(name, damage, tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", -1)
    fixed = dict(
        stages=stages({"cross_entropy": 1.0}, 2),
        recipe=Recipe(2, 1e-3, 0),
        vocabulary=VOCABULARY,
        work=tmp_path,
    )
    loop.train(model("llama"), packs(), **fixed)
    (checkpoint,) = tmp_path.iterdir()
    (checkpoint / name).write_bytes(damage((checkpoint / name).read_bytes()))
    with pytest.raises(
        StudyError,
        match=(
            rf"{checkpoint} is not what was written \(digest differs\): delete it, and the run"
            r" begins anew"
        ),
    ):
        loop.train(model("llama"), packs(), **fixed)
    shutil.rmtree(checkpoint)
    assert len(loop.train(model("llama"), packs(), **fixed)) == 2


def test_random_numbers_go_on_from_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", -1)
    fixed = dict(stages=stages({"cross_entropy": 1.0}, 1), vocabulary=VOCABULARY, work=tmp_path)
    torch.manual_seed(3)
    loop.train(model("llama"), packs(), recipe=Recipe(2, 1e-3, 0), **fixed)
    expected = torch.rand(3)
    loop.train(model("llama", seed=8), packs(), recipe=Recipe(2, 1e-3, 0), **fixed)
    assert torch.equal(torch.rand(3), expected)


def test_stages_follow_one_another_and_name_what_they_log(tmp_path):
    teacher = model("llama", seed=1)
    both_stages = method_stages.parse(
        [
            {"steps": 2, "losses": {"hidden_mse": 1}},
            {"steps": 3, "losses": {"taid": 1, "cross_entropy": 0.5}},
        ]
    )
    fixed = dict(
        recipe=Recipe(2, 1e-3, 0),
        vocabulary=VOCABULARY,
        teachers=[teacher_of(teacher, aligned=[0, 1, 2, 3])],
    )
    curve = loop.train(model("llama"), packs(), stages=both_stages, work=tmp_path, **fixed)
    assert [sorted(set(entry) - {"step", "loss"}) for entry in curve] == 2 * [
        ["hidden_mse"]
    ] + 3 * [["cross_entropy", "taid"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "weights",
    [{"hidden_mse": 1.0}, {"hidden_cosine": 1.0}, {"mi_alpha": 1.0}, {"token_relation": 1.0}],
)
def test_a_narrower_student_learns_a_wider_teachers_states(tmp_path, weights):
    teacher = model("llama", seed=1, hidden_size=48)
    net = model("llama", seed=2)
    fixed = dict(stages=stages(weights, 40), recipe=Recipe(4, 3e-3, 0), vocabulary=VOCABULARY)
    curve = loop.train(
        net,
        packs()[:4],
        work=tmp_path,
        teachers=[teacher_of(teacher, aligned=[0, 1, 2, 3])],
        **fixed,
    )
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]


def test_losses_at_all_tokens_need_states_at_all_tokens_and_give_the_same_from_disk(tmp_path):
    teacher, rows, losses = model("qwen2", seed=1), packs()[:4], []
    training_teachers.store(teacher, rows, tmp_path, iter, "all")
    weights = {"forward_kl": {"tokens": "all"}, "reverse_kl": 1.0}
    for served in (
        Live(teacher, "all"),
        training_teachers.CachedStates(tmp_path.glob("*.safetensors"), "all"),
    ):
        losses.append(
            {
                name: value.item()
                for name, value in summed(
                    model("qwen2"), rows, weights, teacher_of(teacher, served)
                ).items()
            }
        )
    assert losses[0] == losses[1]


def test_all_tokens_weigh_as_in_a_row_of_their_own():
    """The prefix once; a question's tokens and its answer's as they are without packing."""
    net, prompt = model("llama"), next(prompt for prompt in built() if len(prompt.branches) > 1)
    every = {"cross_entropy": {"tokens": "all"}}
    packed = summed(net, [packing.pack(prompt)], every)["cross_entropy"].item()
    alone = [summed(net, [row], every)["cross_entropy"].item() for row in unpack(prompt)]
    ids = torch.tensor([prompt.prefix])
    with torch.no_grad():
        logs = net(input_ids=ids).logits[0, :-1, :VOCABULARY].log_softmax(-1)
    prefix = -logs[torch.arange(ids.shape[1] - 1), ids[0, 1:]].sum().item()
    assert packed == pytest.approx(sum(alone) - (len(alone) - 1) * prefix, rel=1e-4)


@torch.no_grad()
def test_of_several_teachers_the_mean_probability_is_learnt():
    first, second, net, rows = (
        model("llama", seed=1),
        model("llama", seed=2),
        model("llama"),
        packs()[:3],
    )
    for teachers in ((first, second), (first, first)):
        loss = summed(
            net, rows, {"forward_kl": 1.0}, *(teacher_of(teacher) for teacher in teachers)
        )["forward_kl"]
        p = sum(teacher_of(teacher).logits(rows, "answers").softmax(-1) for teacher in teachers) / 2
        q = torch.cat(
            [parts.head(net, training_teachers.answer_states(net, row), VOCABULARY) for row in rows]
        ).log_softmax(-1)
        assert loss == pytest.approx((p * (p.log() - q)).sum().item(), rel=1e-4)


def test_hidden_states_are_learnt_from_one_teacher_that_runs_beside():
    guide, net = teacher_of(model("llama", seed=1), aligned=[0, 1, 2, 3]), model("llama")
    assert summed(net, packs()[:1], {"hidden_mse": 1.0}, guide)["hidden_mse"] > 0
    for lacking in ([guide, guide], [replace(guide, model=None)], []):
        with pytest.raises(StudyError, match="one teacher whose model runs beside the student"):
            mixture({"hidden_mse": 1.0}).student(net, lacking)


def test_states_of_a_teacher_that_is_prompted_otherwise_are_those_of_the_same_questions():
    """A student asked zero-shot, a teacher that sees a demonstration."""
    net, shown = model("llama", seed=1), built("one-shot")
    served = training_teachers.Reprompted(
        Live(net), [packing.pack(prompt) for prompt in shown[:-1]]
    )
    single_rows = {
        branch.question.id: packing.pack(replace(prompt, branches=[branch]))
        for prompt in shown
        for branch in prompt.branches
    }
    for prompt, row in list(zip(built(), packs(), strict=True))[:-1]:
        expected = torch.cat(
            [
                training_teachers.answer_states(net, single_rows[branch.question.id])
                for branch in prompt.branches
            ]
        )
        torch.testing.assert_close(served(row), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(served(row), training_teachers.answer_states(net, row), atol=1e-2)
    with pytest.raises(StudyError, match=packs()[-1].question_ids[0]):
        served(packs()[-1])
    branch = built()[0].branches[0]
    with pytest.raises(StudyError, match=branch.question.id):
        served(packing.pack(replace(built()[0], branches=[replace(branch, target=[5, 6])])))


KEPT = """
import resource, torch
from pathlib import Path
from studylib.core.machine import Machine
from studylib.core.progress import Progress
from studylib.runs import inputs, kinds
from studylib.store.run import Run
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])
plain = faults()
inputs.prepare(Machine(engine="local", engine_options={}, device="cpu", threads=1, processes=1))
faults()
kept, held = faults(), pages()
kinds.cost.build = lambda *_: {"found": torch.ones(10_000_000).sum().item()}
assert kinds.make(None, Progress())(Run("cost", {}), None) == {"found": 1e7}
print(plain, kept, torch.get_num_threads(), (held - pages()) * resource.getpagesize() // 10**6)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory"
)
def test_memory_that_tensors_leave_is_kept_for_the_next_ones_until_the_run_ends():
    """In a process of its own: 40 MB five times are new pages each time without, and none with it;
    after a run they are given back."""
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    plain, kept, threads, given_back = map(int, done.stdout.splitlines()[-1].split())
    assert threads == 1 and plain > 20 and kept < plain / 10 and given_back >= 30
