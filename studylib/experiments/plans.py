"""What an experiment needs, as runs: every trained model with what it is called in tables, and its
answers to every test set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from studylib.core.filesystem import digest
from studylib.core.machine import Machine
from studylib.runs import kinds, planning
from studylib.store.run import Input, Run


@dataclass(frozen=True)
class Asked:
    """A model's answers to one test set in one mode, with what they are called in tables, and the
    run that counted its parameters, or the model from outside; for a student what it is compared
    with."""

    called: dict
    answers: Run
    counted: Run | Input
    teacher: "Asked | None" = None
    loyalty: Run | None = None

    @property
    def planned(self) -> str:
        """Names its rows by what was planned for them."""
        return digest([run.planned for run in (self.answers, self.loyalty) if run is not None])[:24]


@dataclass
class Plan:
    """What an experiment needs: training, dev and test questions, every trained model with what it
    is called in tables, and its answers."""

    machine: Machine
    train: Input
    dev: Input
    tests: list[Input]
    answer_precision: str = "fp32"
    trained: list[tuple[Run, dict]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    costs: list[tuple[Run, dict]] = field(default_factory=list)

    def teacher(self, model: Run, called: dict, modes: Sequence[str]) -> list[Asked]:
        """Add a teacher, asked on every test set in every mode; return what its students are to be
        compared with."""
        self.trained.append((model, called))
        added = []
        for test, mode in product(self.tests, modes):
            label = f"{model.label}: {test.label} {mode}"
            answers = self._answers(model, test, mode, called, label)
            added.append(Asked(_named(called, test, mode), answers, model))
        self.asked += added
        return added

    def student(self, model: Run, called: dict, teacher: Sequence[Asked], way: str = "") -> None:
        """Add a student or control, asked what its teacher was asked; it answers in a `way` of its
        method."""
        self.trained.append((model, called))
        for reference in teacher:
            test, mode = reference.answers.needs["test"], reference.called["eval_prompt"]
            label = f"{model.label}: {test.label} {mode}"
            answers = self._answers(model, test, mode, called, label, way)
            loyalty = kinds.loyalty.plan(answers, reference.answers, label=f"{label}, loyalty")
            named = _named(called, test, mode)
            self.asked.append(Asked(named, answers, model, reference, loyalty))

    def cost(self, model: Run, teacher: Run, called: dict) -> None:
        """Add what a student's answers cost beside its teacher's, asked as it was trained; measured
        once for all of its size and seed."""
        how = dict(
            eval_prompt=called["train_prompt"], seed=called["seed"], precision=self.answer_precision
        )
        run = next(
            (
                run
                for run, other in self.costs
                if all(other[name] == called[name] for name in ("student", "train_prompt", "seed"))
            ),
            None,
        )
        run = run or kinds.cost.plan(
            model, teacher, self.dev, self.train, **how, label=f"{model.label}, cost"
        )
        self.costs.append((run, called))

    def base(self, model: Input, called: dict, modes: Sequence[str]) -> None:
        """Add a model as it comes from outside, asked on every test set in every mode."""
        for test, mode in product(self.tests, modes):
            label = f"{called['student'] or called['family']} as shipped: {test.label} {mode}"
            answers = self._answers(model, test, mode, called, label)
            self.asked.append(Asked(_named(called, test, mode), answers, model))

    def other_teacher(self, model: Run | Input, called: dict, mode: str, *, counted: Run) -> None:
        """Add a model that teaches besides the fine-tuned teacher, asked as it teaches; `counted`
        knows its parameters."""
        for test in self.tests:
            label = f"{called['teacher']} of {counted.label}: {test.label} {mode}"
            answers = self._answers(model, test, mode, called, label)
            self.asked.append(Asked(_named(called, test, mode), answers, counted))

    def _answers(
        self, model: Run | Input, test: Input, mode: str, called: dict, label: str, way: str = ""
    ) -> Run:
        how = dict(eval_prompt=mode, seed=called["seed"], precision=self.answer_precision, way=way)
        return kinds.answers.plan(model, test, self.train, **how, label=label)

    @property
    def arms(self) -> dict[tuple[str, str, str], str]:
        """The arm of every trained model, by its role, its teacher and its objective: that which it
        was called by, or else its role."""
        return {
            (called["role"], called["teacher"], called["objective"]): called.get(
                "arm", called["role"]
            )
            for _, called in self.trained
        }

    @property
    def names(self) -> set[str]:
        """All that someone has named in it: families, siblings, test sets."""
        return {test.label for test in self.tests} | {
            str(name) for _, called in self.trained for name in called.values()
        }

    @property
    def runs(self) -> list[Run]:
        """Every run, each once, in an order in which they can be made."""
        answered = [
            run for asked in self.asked for run in (asked.answers, asked.loyalty) if run is not None
        ]
        return planning.each_run([*answered, *(run for run, _ in self.costs)])


def _named(called: dict, test: Input, mode: str) -> dict:
    return called | {"eval_prompt": mode, "test_set": test.label}
