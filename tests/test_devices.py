"""Everything follows the device of its model. Without a GPU: on fake tensors of one, where a tensor that was left on the CPU is an error."""

from unittest import mock

import pytest
import torch
from miniatures import FAMILIES, built, model, packs, stages, tokenizer
from torch._subclasses import FakeTensorMode

from studylib import answering, cutting, models, objectives, packing, teaching, training
from studylib.errors import StudyError

gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def far(request):
    """A model whose weights lie on a GPU that is not there, and the mode in which it can be computed with."""
    with FakeTensorMode(allow_non_fake_inputs=True), mock.patch.object(torch.Tensor, "pin_memory", lambda self: self):
        yield lambda family: model(family).to("cuda")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "losses", [{"cross_entropy": 1.0}, {"forward_kl": 1.0, "taid": 0.5}, {"jsd": {"weight": 1, "tokens": "all"}}, {"hidden_mse": 1.0}]
)
def test_losses_stay_on_the_models_device(family, losses, far):
    student, net = far(family), far(family)
    mixture, row = objectives.Mixture(objectives.parse(stages(**losses))), packs()[0]
    tokens = "all" if "jsd" in losses else "answers"

    class Stored:
        """States as they come from disk, on the CPU."""

        def __init__(self):
            self.tokens = tokens

        def __call__(self, pack):
            return torch.zeros(len(pack.ids) if tokens == "all" else len(pack.answers.at), 32)

    guide = training.Teacher(models.output_of(net, len(tokenizer())), Stored(), net, [0, 1, 2, 3])
    with mock.patch.object(torch.Tensor, "item", lambda self: 0.5):  # fake tensors hold no number
        found = training.losses(student, [row], mixture.to("cuda"), 0, guide, len(tokenizer()))
        sum(found.values()).backward()
    assert {value.device.type for value in found.values()} == {"cuda"}
    assert {weight.grad.device.type for weight in student.parameters() if weight.grad is not None} == {"cuda"}


@pytest.mark.parametrize("family", FAMILIES)
def test_states_and_readings_stay_on_the_models_device(family, far):
    net, row = far(family), packs()[0]
    assert teaching.answer_states(net, row).device.type == "cuda"
    batch = packing.collate([row]).to(net.device)
    walk = cutting._Walk(net, batch)
    assert walk.through(models.layers(net)[0], walk.start, 0).device.type == "cuda"
    assert batch.mask.device.type == batch.real.device.type == "cuda"


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_read_on_the_models_device(family, far):
    """Up to where tokens are chosen, which fake tensors cannot."""
    net, asked = far(family), built("one-shot")[:2]
    beginning = tuple(asked[0].prefix[: asked[0].shared])
    cache = answering._begin(net, beginning)
    read = []
    with mock.patch.object(answering, "_decode", lambda *given: read.append(given)):
        answering._group(net, tokenizer(), asked, cache, len(beginning), 8)
    (_, _, _, open_questions, last, keys, _) = read[0]
    assert last.device.type == keys.device.type == "cuda" and len(open_questions) == len(last)


def test_a_tensor_that_was_left_behind_is_found(far):
    """What the tests above rest on."""
    net = far("llama")
    with pytest.raises(Exception, match="device"):
        net.base_model(input_ids=torch.zeros(1, 4, dtype=torch.long))


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert models.device("auto") == models.device("cpu") == torch.device("cpu")
    with pytest.raises(StudyError, match="torch sees no GPU here"):
        models.device("cuda")
    with pytest.raises(StudyError, match="device 'tpu' is unknown: use auto, cpu or cuda"):
        models.device("tpu")


@gpu
@needs_gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_finds_the_losses_of_the_cpu(family):
    found = []
    for device in ("cpu", "cuda"):
        student, net = (model(family, seed=seed).to(device) for seed in (0, 1))
        mixture = objectives.Mixture(objectives.parse(stages(forward_kl=1.0, hidden_mse=1.0)))
        guide = training.Teacher(models.output_of(net, len(tokenizer())), None, net, [0, 1, 2, 3])
        found.append(training.backward(student, packs()[:4], mixture, 0, guide, len(tokenizer())))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@gpu
@needs_gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_gives_the_answers_of_the_cpu(family):
    said = [answering.answer(model(family).to(device), tokenizer(), built()) for device in ("cpu", "cuda")]
    sure = [(one.text, other.text) for one, other in zip(*said, strict=True) if one.margin > 1e-3]
    assert len(sure) > 10 and all(one == other for one, other in sure)


@gpu
@needs_gpu
def test_a_checkpoint_of_a_gpu_goes_on_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    how = dict(stages=objectives.parse(objectives.gold(4)), recipe=training.Recipe(2, 1e-3, 0), vocabulary=len(tokenizer()), work=tmp_path)

    def stop(step: int, values: dict) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(model("llama").to("cuda"), packs(), **how, report=stop)
    curve = training.train(model("llama"), packs(), **how)
    whole = training.train(model("llama"), packs(), **how | {"work": tmp_path / "whole"})
    assert [one["loss"] for one in curve] == pytest.approx([one["loss"] for one in whole], rel=1e-3)
