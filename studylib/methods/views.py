"""What a method sees of a model on some rows: logits, hidden states, and the sequences they belong
to.

B rows of up to T tokens; N positions at which a next token is predicted, of S sequences (the
questions of all rows); d the width of hidden states, V the size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Protocol, TypeAlias

from studylib.core.errors import StudyError
from studylib.core.libraries import torch, transformers
from studylib.data.packing import Batch, Pack, Places, collate
from studylib.models import parts

Head: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
ONLINE = (
    "Losses on hidden states need one teacher whose model runs beside the student: leave them out"
    " of `stages`."
)


@dataclass(frozen=True)
class View:
    """A model on some rows, computed when it is first asked for.

    `tokens` says which positions count: those where `answers` are predicted, or `all`. `states`
    are the hidden states (B, T, d) of the embeddings and of each block, the last after the final
    `norm`; `attend` makes the last block's attention maps (B, heads, T, T); `cached` are the logits
    (N, V) of a teacher that does not run. `aligned` names the block of this teacher that each of
    the student's should match. Nothing is differentiated unless the model is `trained`.
    """

    rows: Sequence[Pack]
    batch: Batch
    head: Head
    states: Callable[[], tuple[torch.Tensor, ...]] | None = None
    norm: torch.nn.Module | None = None
    attend: Callable[[], torch.Tensor] | None = None
    cached: Callable[[str], torch.Tensor] | None = None
    aligned: Sequence[int] = ()
    trained: bool = False
    tokens: str = "answers"
    _others: dict[str, View] = field(default_factory=dict, repr=False)

    def at(self, tokens: str) -> View:
        """The same model on the same rows, at other positions; nothing is computed twice."""
        self._others.setdefault(self.tokens, self)
        if tokens not in self._others:
            fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
            self._others[tokens] = View(**fields | {"tokens": tokens})
        return self._others[tokens]

    @property
    def places(self) -> Places[torch.Tensor]:
        """The positions in the flattened (B·T) tokens, and their next tokens."""
        return getattr(self.batch, self.tokens)

    @property
    def targets(self) -> torch.Tensor:
        """The next tokens, (N,)."""
        return self.places.targets

    @cached_property
    def logits(self) -> torch.Tensor:
        """(N, V), in float32."""
        with self._gradient():
            if self.cached is not None:
                return self.cached(self.tokens)
            return self.head(self.hidden(-1))

    @cached_property
    def log_probs(self) -> torch.Tensor:
        """log p of the next tokens, (N,), in nats."""
        with self._gradient():
            chosen = self.targets[:, None]
            return self.logits.float().log_softmax(-1).gather(-1, chosen)[:, 0]

    def hidden(self, layer: int) -> torch.Tensor:
        """Hidden states (N, d): 0 the embeddings, k the output of block k, -1 the last one's after
        the final norm. Raises StudyError for a teacher that does not run beside the student."""
        return self._layers()[layer].flatten(0, 1)[self.places.at]

    def exit(self, blocks: int) -> torch.Tensor:
        """The logits (N, V) that the output head reads after so many blocks."""
        if blocks == self.depth:
            return self.logits
        assert self.norm is not None, "a student has it"
        return self.head(self.norm(self.hidden(blocks)))

    def hidden_rows(self, layer: int) -> list[torch.Tensor]:
        """The same row by row, (T, d) each: at answers, or at all tokens, targets or not."""
        states = self._layers()[layer]
        return [states[row][self._in_row(row)] for row in range(len(states))]

    def attention_rows(self) -> list[torch.Tensor]:
        """How these tokens attend to those of their row in the last block, row by row, (heads, T,
        K) each. Raises StudyError for a teacher that does not run beside the student."""
        if self.attend is None:
            raise StudyError(ONLINE)
        with self._gradient():
            maps = self.attend()  # (B, heads, T, T)
        return [
            maps[row][:, self._in_row(row), :size] for row, size in enumerate(self.batch.lengths)
        ]

    def _in_row(self, row: int) -> torch.Tensor | slice:
        """The places of a row's tokens: of its answers, or of all."""
        width, at = self.batch.ids.shape[1], self.batch.answers.at
        if self.tokens == "all":
            return slice(self.batch.lengths[row])
        return at[at // width == row] % width

    @property
    def depth(self) -> int:
        """Blocks."""
        return len(self._layers()) - 1

    @cached_property
    def sequences(self) -> torch.Tensor:
        """The number of the sequence that each position belongs to, (N,), from 0 to S - 1; of
        answers alone."""
        numbers = torch.arange(len(self.lengths), device=self.lengths.device)
        return numbers.repeat_interleave(self.lengths)

    def per_sequence(self, values: torch.Tensor) -> torch.Tensor:
        """Sums of values (N,) over sequences, (S,)."""
        return values.new_zeros(len(self.lengths)).index_add(0, self.sequences, values)

    @cached_property
    def lengths(self) -> torch.Tensor:
        """The tokens of each sequence's answer, (S,)."""
        lengths = [length for row in self.rows for length in row.target_lengths]
        return torch.tensor(lengths, device=self.batch.ids.device)

    def where(self, role: str) -> torch.Tensor:
        """(S,) True on the sequences of a role."""
        roles = [sequence_role == role for row in self.rows for sequence_role in row.roles]
        return torch.tensor(roles, device=self.batch.ids.device)

    def _layers(self) -> tuple[torch.Tensor, ...]:
        if self.states is None:
            raise StudyError(ONLINE)
        with self._gradient():
            return self.states()

    def _gradient(self) -> torch.set_grad_enabled:
        return torch.set_grad_enabled(self.trained and torch.is_grad_enabled())


class Served(Protocol):
    """Hidden states of a teacher by row: (N, d) at answers, or (T, d) at `all` tokens."""

    tokens: str

    def __call__(self, pack: Pack) -> torch.Tensor: ...


@dataclass(frozen=True)
class Teacher:
    """What a student is compared with: cached `states` and the `head` that makes logits of them,
    or its `model`, where it runs beside the student. `base` says that it is the base model of a
    training, which teaches the stages that name it."""

    head: Head
    states: Served | None = None
    model: transformers.PreTrainedModel | None = None
    aligned: Sequence[int] = ()
    base: bool = False

    def view(self, rows: Sequence[Pack], batch: Batch, online: bool) -> View:
        """It on some rows. Raises StudyError where it should run but does not."""
        if not online:
            return View(rows, batch, self.head, cached=lambda tokens: self.logits(rows, tokens))
        if self.model is None:
            raise StudyError(ONLINE)
        states, attend = _inner(self.model, batch)
        return View(rows, batch, self.head, states, attend=attend, aligned=self.aligned)

    def logits(self, rows: Sequence[Pack], tokens: str) -> torch.Tensor:
        """Its logits by cached states, (N, V)."""
        served = self.states
        assert served is not None, "a teacher that does not run has states"
        states = [
            served(row) if served.tokens == "answers" else served(row)[getattr(row, tokens).at]
            for row in rows
        ]
        return self.head(torch.cat(states))


def student_view(
    model: transformers.PreTrainedModel,
    rows: Sequence[Pack],
    vocabulary: int,
    inner: bool,
    trained: bool = True,
) -> View:
    """The model that is trained, or only looked at; with the states of its inner layers where a
    method looks at them."""
    batch = collate(rows).to(model.device)
    head, norm = parts.output_of(model, vocabulary), parts.final_norm(model)
    if inner:
        states, attend = _inner(model, batch)
        return View(rows, batch, head, states, norm, attend, trained=trained)
    last = cache(lambda: parts.layer_states(model, batch, False))
    return View(rows, batch, head, last, norm, trained=trained)


def _inner(
    model: transformers.PreTrainedModel, batch: Batch
) -> tuple[Callable[[], tuple[torch.Tensor, ...]], Callable[[], torch.Tensor]]:
    """What makes hidden states of every layer, and what makes attention maps, both by one pass."""
    run = cache(lambda: parts.attended_states(model, batch))
    return lambda: run()[0], lambda: run()[1]()


def mean_logits(teachers: Sequence[View]) -> torch.Tensor:
    """Of several teachers the log of their mean probability up to a constant, (N, V)."""
    if len(teachers) == 1:
        return teachers[0].logits
    with torch.no_grad():
        return torch.stack([view.logits.log_softmax(-1) for view in teachers]).logsumexp(0)
