"""What runs take: against the models themselves, and where nothing is at hand."""

import pytest
import torch
from miniatures import FAMILIES, built, model, planned, stages, students, tokenizer
from torch.utils.flop_counter import FlopCounterMode

from studylib.app import study
from studylib.data import packing
from studylib.methods import stages as method_stages
from studylib.methods.objective import Objective
from studylib.methods.views import Teacher
from studylib.models import flops, lora, parts, prune
from studylib.models.precision import products_in
from studylib.runs import budget, kinds, token_counts
from studylib.runs.budget import Budget, Shape
from studylib.store.store import Store
from studylib.training import loop, teachers

WORK = Budget()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shape_is_counted_without_weights(family):
    net = model(family)
    hollow = prune.hollow(net.config, 4, None)
    assert Shape.of(hollow) == Shape.of(net) and all(
        weight.is_meta for weight in hollow.parameters()
    )
    assert Shape.of(net).total == net.num_parameters()
    assert (
        Shape.of(prune.hollow(net.config, 2, 8)).nonembedding
        < Shape.of(prune.hollow(net.config, 2, None)).nonembedding
    )


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_by_stored_states_takes_what_torch_counts_of_it(family, rank):
    """On real weights, with attention over all pairs of places: forward and backward through the
    student, and through the teacher's output head forward alone."""
    net, teacher, row = model(family), model(family, hidden_size=64), packing.pack(built()[-1])
    net.set_attn_implementation("eager")  # whose products are counted
    hollow = prune.hollow(net.config, 4, None)
    for adapted in (net, hollow) if rank else ():
        lora.attach(adapted, rank, "fp32", 0)
    method = Objective(losses={"forward_kl": 1.0})
    states = teachers.ComputedStates(teacher, [row])
    taught_by = Teacher(parts.output_of(teacher, len(tokenizer())), states)
    with FlopCounterMode(display=False) as counter:
        loss = loop.losses(net, [row], method, [taught_by], len(tokenizer()))
        loss["forward_kl"].backward()
    places, looked = len(row.ids), len(row.answers.at)
    student = flops.counted(hollow).training.flops(places, places**2, looked)
    head = flops.counted(prune.hollow(teacher.config, 4, None)).forward.flops(0, 0, looked)
    assert counter.get_total_flops() == student + head


@pytest.mark.parametrize(("precision", "rank"), [("fp32", 0), ("fp32", 8), ("bf16", 8)])
def test_what_a_backward_pass_keeps_is_counted_exactly(precision, rank):
    """Against hooks on the real thing: the fake step keeps as many bytes as a true one, of all
    weights or of adapters."""
    net = model("llama").train(False)
    parameters = {"stages": method_stages.gold(1), "precision": precision} | (
        {"lora": rank} if rank else {}
    )
    if rank:
        lora.attach(net, rank, precision, 0)
    row, kept = token_counts.example(60, 2), {}
    weights = {weight.untyped_storage().data_ptr() for weight in net.parameters()}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, products_in(net, precision):
        gold = Objective(losses={"cross_entropy": 1.0})
        loss = loop.losses(net, [row, row], gold, (), net.config.vocab_size)
    assert loss["cross_entropy"].requires_grad
    hollow = prune.hollow(net.config, 4, None)
    ours = budget._saved(hollow, 60, 2, 2, parameters)
    assert ours == pytest.approx(sum(storage.nbytes() for storage in kept.values()), rel=0.05)


def test_more_of_anything_takes_more(raw):
    """FLOPs, memory and disk grow with size, steps, rows of a micro-batch, and with what is
    compared."""

    def of(kind="student", **changes):
        plan = planned(raw, from_base=[], **changes)
        return next(
            kinds.took(WORK, run)
            for (role, _, name), run in students(plan).items()
            if role == kind and name.endswith("-3")
        )

    base = of()
    assert of(stages=[{"steps": 20, "losses": {"forward_kl": 1.0}}]).flops > 2 * base.flops
    everywhere = of(stages=stages(forward_kl={"weight": 1, "tokens": "all"}))
    assert everywhere.flops > base.flops and everywhere.memory > base.memory
    beside = of(stages=stages(hidden_mse=1.0))
    assert beside.memory > base.memory  # the whole teacher is at hand
    assert of("control").flops < base.flops
    plan = planned(raw, sizes=[3, "3x8"], from_base=[])
    wide, narrow = (
        kinds.took(WORK, run) for (role, _, _), run in students(plan).items() if role == "student"
    )
    assert (
        narrow.flops < wide.flops
        and narrow.disk < wide.disk
        and narrow.parameters < wide.parameters
    )


def test_neurons_that_go_by_gradients_take_a_pass_forward_and_backward_more(raw):
    """Of the uncut model on each row, without gradients of weights."""
    usual, gradient = (
        next(
            (kinds.took(WORK, run), run)
            for run in planned(raw, sizes=["3x8"], from_base=[], **criterion).runs
            if run.kind == "cut"
        )
        for criterion in ({}, {"pruning_criterion": "gradient"})
    )
    (took, run), (plain, _) = gradient, usual
    text, whole = WORK.text(run, "train", True), WORK.shape(run.needs["init"])
    row = whole.forward.flops(text.tokens, text.pairs, text.answers)
    assert took.flops - plain.flops == pytest.approx(
        2 * run.parameters["calibration_contexts"] * row
    )
    assert took.memory >= plain.memory and took.disk == plain.disk


def taught(raw, *several):
    """What the student of some stages takes, and its run."""
    plan = planned(raw, sizes=[3], from_base=[], stages=[*several])
    run = students(plan)["student", "fine-tuned", "mini-3"]
    return kinds.took(WORK, run).done, run


def gkd(steps, share):
    return {"steps": steps, "method": "gkd", "options": {"on_policy": share}}


def test_a_students_answers_in_training_are_counted_by_their_share_of_steps(raw):
    never, half, always = (taught(raw, gkd(4, share))[0] for share in (0, 0.5, 1))
    _, run = taught(raw, gkd(4, 1))
    text, shape = WORK.text(run, "train", True), WORK.shape(run)
    rows = 4 * run.parameters["batch_size"]
    expected = rows / text.rows * budget.answering(shape, text)
    assert always["answering"] - never["answering"] == pytest.approx(expected)
    assert half["answering"] - never["answering"] == pytest.approx(expected / 2)
    assert never["training"] == always["training"]


def test_a_teacher_beside_its_student_reads_in_its_own_stages_alone(raw):
    gold = {"steps": 3, "losses": {"cross_entropy": 1.0}}
    (short, _), (both, run), (long, _) = (
        taught(raw, *several) for several in ([gkd(2, 1)], [gold, gkd(2, 1)], [gkd(5, 1)])
    )
    text, teacher = WORK.text(run, "train", True), WORK.shape(run.needs["teacher"])
    step = run.parameters["batch_size"] * teacher.forward.flops(
        text.tokens, text.pairs, text.answers
    )
    assert both["reading"] == pytest.approx(short["reading"])
    assert long["reading"] - short["reading"] == pytest.approx(3 * step)
    assert both["answering"] == short["answering"] < long["answering"]
    assert both["training"] == long["training"]


def test_what_examples_take_is_as_many_answers_as_their_method_asks_for(raw):
    def answering(method, **options):
        stage = {"steps": 2, "method": method, "options": options}
        _, run = taught(raw, stage)
        examples = run.needs["examples 0"]
        text, took = WORK.text(examples, "train", True), kinds.took(WORK, examples)
        once = budget.answering(WORK.shape(examples.needs["teacher"]), text)
        return took.flops / once, took.tokens / (text.rows * text.tokens)

    assert answering("sequence_kd") == pytest.approx((1, 1))
    assert answering("redi") == pytest.approx((4, 4)), "as many as by default"
    assert answering("redi", samples=2) == pytest.approx((2, 2))


def test_adapters_take_less_than_all_weights(raw):
    """Their optimiser states and checkpoints, and FLOPs of a training, as frozen weights take no
    gradient; the merged model is as large."""
    full, low = (
        kinds.took(WORK, students(planned(raw, teacher_lora=rank))["teacher", "base", ""])
        for rank in (0, 2)
    )
    assert low.memory < full.memory and low.work < full.work and low.disk == full.disk
    assert 2 / 3 < low.done["training"] / full.done["training"] < 0.8


def test_every_kind_of_run_is_accounted_for(raw, tmp_path):
    """On disk as much as the run then takes, within the files' heads and JSON."""
    plan, store = (
        planned(raw, sizes=[3], from_base=[], lrs=[1e-3, 1e-4]),
        Store(tmp_path),
    )

    study.complete(plan, store)
    for run in plan.runs:
        took = kinds.took(WORK, run)
        there = sum(file.stat().st_size for file in store.folder(run).rglob("*.safetensors"))
        assert took.flops > 0 and took.memory > took.parameters and not took.estimated
        assert took.disk == pytest.approx(there, rel=0.1, abs=20_000), run.label
