"""What a run takes, from configurations alone: parameters, tokens, FLOPs, memory, disk.

Models are built on the meta device, where their FLOPs are counted, and a training step is walked
through with fake tensors: no weights are needed and nothing is fetched.

took = kinds.took(SHARED, run); print(took.flops, took.memory)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from studylib.core.libraries import torch, transformers
from studylib.data import packing
from studylib.methods import objective
from studylib.methods import stages as method_stages
from studylib.methods.base import Method
from studylib.models import flops, loading, lora, parts, prune
from studylib.models.precision import products_in
from studylib.runs import plan_parts, token_counts
from studylib.runs.token_counts import Text
from studylib.store.run import Input, Run

FLOAT = 4  # bytes: weights, gradients, optimiser and cached states are in fp32
BACKWARD = 2  # times what a forward pass keeps: gradients of it, and holes between
HALF = 2  # bytes: the copies of weights that products in bf16 are made of
TRAINED = 4  # of each trained weight: itself, its gradient, both moments
ANSWER_TOKENS = 6  # tokens of an answer, EOS among them (SQuAD dev: 5.7)


@dataclass(frozen=True)
class Shape:
    """A model's size: parameters in all, outside embeddings, and trained; frozen weights of linear
    maps in its blocks; layers, widths (of keys and values, of hidden states), rows of its
    vocabulary; FLOPs of a forward pass, and of one of training."""

    total: int
    nonembedding: int
    trained: int
    maps: int
    layers: int
    kept: int
    hidden: int
    vocabulary: int
    forward: flops.Pass
    training: flops.Pass

    @classmethod
    def of(cls, model: transformers.PreTrainedModel) -> Shape:
        """That of a model on the meta device."""
        config, counts = model.config, parts.parameters(model)
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        frozen = sum(
            module.weight.numel()
            for module in parts.layers(model).modules()
            if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad
        )
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        kept = head * (getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        return cls(
            counts["total"],
            counts["nonembedding"],
            trained,
            frozen,
            len(parts.layers(model)),
            kept,
            config.hidden_size,
            config.vocab_size,
            *flops.counted(model),
        )


@dataclass(frozen=True)
class Took:
    """What a run takes: the parameters of its model, tokens it reads, FLOPs by how they are done,
    bytes of memory, and of disk while it goes on and afterwards; whether its texts are
    `estimated`."""

    parameters: int
    tokens: float
    done: Mapping[str, float]
    memory: float
    work: float
    disk: float
    estimated: bool

    @property
    def flops(self) -> float:
        """All of its FLOPs."""
        return sum(self.done.values())


@dataclass
class Budget:
    """Accounts for runs; keeps what several share."""

    texts: dict[tuple, Text] = field(default_factory=dict)
    shapes: dict[tuple, Shape] = field(default_factory=dict)
    lengths: dict[tuple, int] = field(default_factory=dict)
    steps: dict[tuple, float] = field(default_factory=dict)

    def shape(self, model: Run | Input, rank: int = 0) -> Shape:
        """The size of a model that a run makes, or that comes from outside; while it is trained by
        adapters, with these of their `rank`."""
        base, depth, neurons, tokens = size_of(model)
        key = (base.digest, depth, neurons, tokens, rank)
        if key not in self.shapes:
            config = loading.config(base.value)
            prune.check_size(config, depth or 1, neurons, model.label)
            hollow = prune.hollow(config, depth or config.num_hidden_layers, neurons, tokens)
            if rank:
                lora.attach(hollow, rank, "fp32", 0)
            self.shapes[key] = Shape.of(hollow)
        return self.shapes[key]

    def text(self, run: Run, need: str, learning: bool = False) -> Text:
        """What a run reads of one of its data sets, in the way in which it is prompted."""
        key = token_counts.key(run, need, learning)
        if key not in self.texts:
            self.texts[key] = token_counts.text(run, need, learning)
        return self.texts[key]

    def longest(self, run: Run) -> int:
        """Tokens of the longest row that a training meets."""
        parameters = run.parameters
        steps = method_stages.steps(method_stages.parse(parameters["stages"]))
        how = {"size": parameters["batch_size"], "steps": steps, "seed": parameters["seed"]}
        key = (*token_counts.key(run, "train", True), *how.values())
        if key not in self.lengths:
            lengths = self.text(run, "train", True).lengths
            order = packing.schedule(lengths, **how)
            self.lengths[key] = max(lengths[row] for step in order for row in step)
        return self.lengths[key]

    def saved(self, run: Run) -> float:
        """Bytes that the backward pass of a run's longest micro-batch needs."""
        rows = run.parameters["micro_batch_size"] or run.parameters["batch_size"]
        return self.backward(run, run, self.longest(run), rows)

    def backward(self, run: Run, model: Run | Input, length: int, rows: int) -> float:
        """Bytes that the backward pass through a model needs, of so many of a run's rows, each of
        this length in tokens."""
        parameters, (base, depth, neurons, tokens) = run.parameters, size_of(model)
        per_row = max(1, round(self.text(run, "train", True).questions))
        key = (
            base.digest,
            depth,
            neurons,
            tokens,
            length,
            rows,
            per_row,
            parameters["precision"],
            parameters.get("lora", 0),
        )
        if key not in self.steps:
            config = loading.config(base.value)
            one_block, two_blocks = (
                _saved(
                    prune.hollow(config, blocks, neurons, tokens), length, rows, per_row, parameters
                )
                for blocks in (1, 2)
            )
            more = (depth or config.num_hidden_layers) - 1  # blocks, which are alike
            self.steps[key] = one_block + (two_blocks - one_block) * more
        return self.steps[key]


SHARED = Budget()  # of this process


def size_of(model: Run | Input) -> tuple[Input, int | None, int | None, int | None]:
    """The model from outside that one goes back to, and the layers, neurons and tokens that it was
    cut to, if it was."""
    if isinstance(model, Run) and model.kind == "cut":
        trimmed = model.needs.get("vocabulary")
        return (
            plan_parts.base_of(model),
            model.parameters["depth"],
            model.parameters["neurons"],
            trimmed.parameters["tokens"] if trimmed else None,
        )
    if isinstance(model, Run) and "init" in model.needs:
        return size_of(model.needs["init"])
    return plan_parts.base_of(model), None, None, None


def _saved(
    model: transformers.PreTrainedModel,
    length: int,
    rows: int,
    questions: int,
    parameters: Mapping,
) -> float:
    """Bytes of what a micro-batch of `rows` rows of this length keeps for the backward pass of a
    model on the meta device, weights left out."""
    row, kept = token_counts.example(length, questions), {}
    if "lora" in parameters:
        lora.attach(model, parameters["lora"], parameters["precision"], 0)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        _fake(model)
        weights = {weight.untyped_storage()._cdata for weight in model.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = storage  # held, so that no other takes its place
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            products_in(model, parameters["precision"]),
        ):
            batch = packing.collate([row] * rows)
            hidden = parts.hidden_states(model, batch).flatten(0, 1)
            logits = parts.head(
                model,
                hidden[torch.zeros(len(batch.answers.at), dtype=torch.long)],
                model.config.vocab_size,
            )
            objective.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long)).sum()
        return sum(storage.nbytes() for storage in kept.values())


def _fake(model: transformers.PreTrainedModel) -> None:
    """Put fake tensors on the processor in the place of a hollow model's parameters and buffers,
    within a `FakeTensorMode`."""
    fakes: dict[int, torch.Tensor] = {}  # tied weights stay one
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            fake = fakes.setdefault(id(weight), torch.empty(weight.shape, dtype=weight.dtype))
            module._parameters[name] = torch.nn.Parameter(fake, weight.requires_grad)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def answering(shape: Shape, text: Text) -> float:
    """FLOPs of answering all questions of a text: each row read once, then a token of each question
    after the other."""
    decoding = (ANSWER_TOKENS - 1) * text.questions * shape.forward.flops(1, text.tokens, 1)
    return text.rows * (shape.forward.flops(text.tokens, text.pairs, text.questions) + decoding)


def generating(
    method: Method, decision: str, text: Text, student: Shape, *teachers: Shape
) -> float:
    """FLOPs of the answers to all questions of a text that a decision of a method asks of the
    student and of its first teacher."""
    shapes = dict(zip(("student", "teacher"), (student, *teachers), strict=False))
    return sum(
        times * answering(shapes[name], text) for name, times in method.generates(decision).items()
    )


def took(
    run: Run,
    shape: Shape,
    tokens: float,
    done: Mapping[str, float],
    memory: float,
    going: float,
    kept: float,
) -> Took:
    """That of a run, of what its kind has counted."""
    estimated = any(
        need in step.needs and not token_counts.at_hand(step, need)
        for step in (run, *run.needs.values())
        if isinstance(step, Run)
        for need in ("train", "dev", "test")
    )
    return Took(shape.total, tokens, dict(done), memory, going, kept, estimated)
