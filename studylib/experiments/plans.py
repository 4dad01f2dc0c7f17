"""What an experiment needs, as runs: every trained model with what it is called in tables, and its
answers to every test set."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from studylib.core.filesystem import digest
from studylib.core.machine import Machine
from studylib.runs import kinds, plan_parts
from studylib.store.run import Input, Run


@dataclass(frozen=True)
class Asked:
    """A model's answers to one test set in one mode, with what they are called in tables. `counted`
    is the run that counted its parameters, or the model from outside. A student has the `teacher`
    that it is compared with."""

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
    is called in tables, and its answers; and whether students minus controls of all sizes together
    were declared to be its primary contrast (`pooled_declared`)."""

    machine: Machine
    train: Input
    dev: Input
    tests: list[Input]
    answer_precision: str = "fp32"
    trained: list[tuple[Run, dict]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    costs: list[tuple[Run, dict]] = field(default_factory=list)
    pooled_declared: bool = False

    @cached_property
    def labelled(self) -> Input:
        """The training set without data sets that are unlabelled."""
        return plan_parts.labelled(self.train)

    def teacher(self, model: Run, called: dict, modes: Sequence[str]) -> list[Asked]:
        """Add a teacher, asked on every test set in every mode; return what its students are to be
        compared with."""
        self.trained.append((model, called))
        return self.ask(model, called, modes, model.label)

    def ask(
        self,
        model: Run | Input,
        called: dict,
        modes: Sequence[str],
        title: str,
        *,
        counted: Run | None = None,
    ) -> list[Asked]:
        """Add what a model answers to every test set in every mode. `counted` knows its parameters,
        if it does not itself."""
        return [
            self._answered(model, called, test, mode, title, counted=counted)
            for test, mode in product(self.tests, modes)
        ]

    def student(self, model: Run, called: dict, teacher: Sequence[Asked]) -> None:
        """Add a student or control, asked what its teacher was asked."""
        self.trained.append((model, called))
        self.student_answers(model, called, teacher)

    def student_answers(
        self, model: Run, called: dict, teacher: Sequence[Asked], way: str = ""
    ) -> None:
        """Add what a student answers to what its teacher was asked, in a `way` of its method."""
        for reference in teacher:
            test, mode = reference.answers.needs["test"], reference.called["eval_prompt"]
            self._answered(model, called, test, mode, model.label, teacher=reference, way=way)

    def cost(self, model: Run, teacher: Run, called: dict) -> None:
        """Add what a student's answers cost beside its teacher's, asked as it was trained; measured
        once for all of its size and seed."""
        same = ("student", "train_prompt", "seed")
        measured = {tuple(other[name] for name in same): run for run, other in self.costs}
        run = measured.get(tuple(called[name] for name in same)) or kinds.cost.plan(
            model,
            teacher,
            self.dev,
            self.labelled,
            eval_prompt=called["train_prompt"],
            seed=called["seed"],
            precision=self.answer_precision,
            label=f"{model.label}, cost",
        )
        self.costs.append((run, called))

    def _answered(
        self,
        model: Run | Input,
        called: dict,
        test: Input,
        mode: str,
        title: str,
        *,
        counted: Run | None = None,
        teacher: Asked | None = None,
        way: str = "",
    ) -> Asked:
        """Add a model's answers to one test set in one mode, compared with those of its teacher."""
        label = f"{title}: {test.label} {mode}"
        answers = kinds.answers.plan(
            model,
            test,
            self.labelled,
            eval_prompt=mode,
            seed=called["seed"],
            precision=self.answer_precision,
            way=way,
            label=label,
        )
        loyalty = (
            kinds.loyalty.plan(answers, teacher.answers, label=f"{label}, loyalty")
            if teacher is not None
            else None
        )
        named = called | {"eval_prompt": mode, "test_set": test.label}
        self.asked.append(Asked(named, answers, counted or model, teacher, loyalty))
        return self.asked[-1]

    @property
    def arms(self) -> dict[tuple[str, str, str], str]:
        """The arms that models are called by, by role, teacher and objective; that of all others is
        their role."""
        return {
            (called["role"], called["teacher"], called["objective"]): called["arm"]
            for called in (asked.called for asked in self.asked)
            if "arm" in called
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
        answered = (run for asked in self.asked for run in (asked.answers, asked.loyalty))
        others = (run for run, _ in (*self.costs, *self.trained))
        return plan_parts.each_run([*filter(None, answered), *others])
