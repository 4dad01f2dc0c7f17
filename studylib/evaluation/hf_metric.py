"""Exact match, F1 and ROUGE-L as a metric of `evaluate`, for notebooks; it needs no network.

>>> import evaluate
>>> from studylib.evaluation import hf_metric
>>> metric = evaluate.load(hf_metric.__file__)
>>> answers = dict(predictions=["ein Haus"], references=[["Haus", "Hütte"]])
>>> metric.compute(**answers, language="de", rules="mlqa")
{'exact_match': 100.0, 'f1': 100.0, 'rouge_l': 66.66666666666667}
"""

import datasets
import evaluate

from studylib.core import labels
from studylib.core.errors import StudyError
from studylib.evaluation import metrics


class QuestionAnswering(evaluate.Metric):
    """Means over all answers, 0 to 100, the best of each one's gold answers counting; see
    `studylib.evaluation.metrics`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=metrics.__doc__,
            citation="",
            inputs_description=(
                "predictions: an answer each; references: its gold answers; language; rules."
            ),
            features=datasets.Features(
                predictions=datasets.Value("string"),
                references=datasets.Sequence(datasets.Value("string")),
            ),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        language: str = "en",
        rules: str = "squad",
    ) -> dict[str, float]:
        if not predictions:
            raise StudyError("There is no prediction to score: give at least one.")
        scores = [
            metrics.score(prediction, golds, language=language, rules=rules)
            for prediction, golds in zip(predictions, references, strict=True)
        ]
        return {
            metric: 100 * sum(score[metric] for score in scores) / len(scores)
            for metric in labels.METRICS
        }
