"""ERNIE-Tiny: the order of stages, teachers and texts as they are trained; its latent loss by
hand."""

import copy
import math
from functools import partial

import pytest
import torch
from miniatures import FAMILIES, built, model, packs, unpack
from short_training import VOCABULARY

from studylib.core.errors import StudyError
from studylib.data import packing
from studylib.methods import stages
from studylib.methods.ernie_tiny import STAGES, ErnieTiny
from studylib.methods.views import Teacher
from studylib.models import parts
from studylib.training import loop
from studylib.training.config import Recipe

BASE, FINE_TUNED = "base", "fine-tuned"


def teacher(net, base=False):
    return Teacher(
        parts.output_of(net, VOCABULARY),
        model=net,
        aligned=range(len(parts.layers(net))),
        base=base,
    )


def test_stages_teachers_and_texts_come_in_the_order_of_the_paper(tmp_path):
    """Each model that runs is recorded with the tokens that it reads."""
    read = []

    def record(name, net, given, kwargs):
        read.append((name, kwargs["input_ids"][0].tolist()))

    nets = {FINE_TUNED: model("llama", seed=1), BASE: model("llama", seed=2)}
    for name, net in nets.items():
        net.base_model.register_forward_pre_hook(partial(record, name), with_kwargs=True)
    row = max(packs(), key=lambda row: len(row.roles))
    curve = loop.train(
        model("llama"),
        [row],
        stages=stages.parse(ErnieTiny.recipe(4)),
        recipe=Recipe(batch_size=1, lr=1e-3, seed=0, micro_batch_size=0),
        vocabulary=VOCABULARY,
        work=tmp_path,
        teachers=[teacher(net, name == BASE) for name, net in nets.items()],
    )
    context = row.ids[: row.branches.count(0)]
    assert len(context) < len(row.ids)
    assert read == [
        (BASE, context),
        (FINE_TUNED, context),
        (FINE_TUNED, row.ids),
        (FINE_TUNED, row.ids),
    ]
    terms = [set(step) - {"step", "loss"} for step in curve]
    latent = {"hidden_mse", "attention_mse"}
    assert terms == [latent, latent, latent, latent | {"forward_kl", "cross_entropy"}]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 120])
def test_its_recipe_has_the_steps_of_every_other_method_and_ends_with_the_labels(steps):
    recipe = ErnieTiny.recipe(steps)
    named = [stage["options"]["stage"] for stage in recipe]
    assert sum(stage["steps"] for stage in recipe) == steps and stages.parse(recipe)
    assert named == sorted(named, key=STAGES.index) and named[-1] == STAGES[-1]
    if steps >= 4:
        assert named == list(STAGES)
        assert {stage["steps"] for stage in recipe} <= {steps // 4, math.ceil(steps / 4)}


def test_an_unknown_stage_and_a_missing_teacher_are_refused():
    with pytest.raises(StudyError, match=r"stage of ernie_tiny must be 'general', .* not 'late'"):
        stages.parse([{"steps": 1, "method": "ernie_tiny", "options": {"stage": "late"}}])
    fine_tuned = teacher(model("llama", seed=1))
    with pytest.raises(StudyError, match="need one teacher whose model runs"):
        curriculum = stages.Curriculum(stages.parse(ErnieTiny.recipe(4)))
        curriculum.student(model("llama"), [fine_tuned])


def eager(net, row):
    """The attention maps of the last block on a row without branches, by the library's eager
    attention."""
    config = copy.deepcopy(net.config)
    plain = type(net)._from_config(config, attn_implementation="eager").eval()
    plain.load_state_dict(net.state_dict())
    with torch.no_grad():
        return plain(torch.tensor([row.ids]), output_attentions=True).attentions[-1][0]


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_maps_of_packed_rows_are_those_of_each_question_alone(family):
    net, prompts = model(family), built()[:15:7]
    rows = [packing.pack(prompt) for prompt in prompts]
    view = loop.student_view(net, rows, VOCABULARY, inner=True)
    for prompt, row, maps in zip(prompts, rows, view.at("all").attention_rows(), strict=True):
        assert maps.shape == (4, len(row.ids), len(row.ids))
        for number, alone in enumerate(unpack(prompt), start=1):
            seen = [at for at, branch in enumerate(row.branches) if branch in (0, number)]
            torch.testing.assert_close(maps[:, seen][:, :, seen], eager(net, alone))
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:2]))
    assert net.config._attn_implementation == "sdpa"
    assert torch.equal(view.logits, loop.student_view(net, rows, VOCABULARY, inner=False).logits)


def test_attention_of_answer_tokens_is_a_part_of_that_of_all():
    rows = packs()[:3]
    view = loop.student_view(model("qwen2"), rows, VOCABULARY, inner=True)
    pairs = zip(rows, view.attention_rows(), view.at("all").attention_rows(), strict=True)
    for row, answers, every in pairs:
        torch.testing.assert_close(answers, every[:, row.answers.at])


def test_its_latent_terms_are_means_over_tokens_by_hand():
    student, taught_by, rows = model("llama"), model("llama", seed=1), packs()[:3]
    method = ErnieTiny(stage="task-adaptive")
    values = loop.backward(student, rows, method, [teacher(taught_by)], VOCABULARY, 2)
    hidden, attention, tokens = 0.0, 0.0, 0
    for row in rows:
        views = [
            loop.student_view(net, [row], VOCABULARY, inner=True, trained=False).at("all")
            for net in (student, taught_by)
        ]
        for layer in (1, 2, 3, 4):
            (s,), (t,) = (view.hidden_rows(layer) for view in views)
            for i in range(len(row.ids)):
                hidden += ((s[i] - t[i]) ** 2).sum().item() / (t[i] ** 2).sum().item() / 4
        (a,), (b,) = (view.attention_rows() for view in views)
        for i in range(len(row.ids)):
            attention += sum(((a[h, i] - b[h, i]) ** 2).sum().item() for h in range(4)) / 4
        tokens += len(row.ids)
    assert values["hidden_mse"] == pytest.approx(hidden / tokens, rel=1e-4)
    assert values["attention_mse"] == pytest.approx(attention / tokens, rel=1e-4)
    assert values["loss"] == pytest.approx((hidden + attention) / tokens, rel=1e-4)


@pytest.mark.parametrize("stage", STAGES[:3])
def test_the_latent_loss_and_its_gradient_are_0_where_the_student_is_the_teacher(stage):
    net = model("gpt_neox")
    method, teachers = ErnieTiny(stage=stage), [teacher(net, base=stage == "general")]
    values = loop.backward(net, packs()[:2], method, teachers, VOCABULARY)
    assert values["loss"] == pytest.approx(0, abs=1e-9)
    for weight in net.parameters():
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, torch.zeros_like(weight), atol=1e-5, rtol=0)


def test_attention_is_learnt():
    """The gradient of its term alone reaches the last block's queries and keys."""
    net, rows = model("llama"), packs()[:1]
    method = ErnieTiny(stage="task-adaptive")
    teachers = [teacher(model("llama", seed=1))]
    sums = loop.losses(net, rows, method, teachers, VOCABULARY)
    sums["attention_mse"].backward()
    attention = parts.layers(net)[-1].self_attn
    assert attention.q_proj.weight.grad.norm() > 0 and attention.k_proj.weight.grad.norm() > 0
    assert attention.v_proj.weight.grad is None or attention.v_proj.weight.grad.norm() == 0


def test_models_of_other_widths_and_heads_are_compared_through_projections_that_all_stages_share():
    net, rows = model("llama", hidden_size=24, num_attention_heads=6), packs()[:2]
    curriculum = stages.Curriculum(stages.parse(ErnieTiny.recipe(4)))
    fine_tuned, base = teacher(model("llama", seed=1)), teacher(model("llama", seed=2), base=True)
    curriculum.student(net, [fine_tuned, base])
    first, *later = (method.objective.projections["hidden_mse"] for method in curriculum.methods)
    assert all(projections is first for projections in later) and len(first) == 4
    values = loop.backward(net, rows, curriculum.methods[0], [fine_tuned, base], VOCABULARY)
    assert values["loss"] > 0 and first[0].weight.grad.norm() > 0


def test_a_row_without_questions_has_hidden_states_and_attention_alone():
    row = packing.select(packs()[0], ())
    method = ErnieTiny(stage="general-enhanced")
    values = loop.backward(
        model("llama"), [row], method, [teacher(model("llama", seed=1))], VOCABULARY
    )
    assert row.roles == () and row.answers.at == [] and values["loss"] > 0
