"""Evaluation: metrics, the evaluator that runs a program over examples, and the report it makes."""

from dspex.evaluation._examples import Row, as_example, read_rows
from dspex.evaluation.evaluator import OpenStream, evaluate
from dspex.evaluation.intervals import Interval, mean_interval
from dspex.evaluation.judges import (
    Agreement,
    CompareAnswers,
    CompleteAndGrounded,
    Judge,
    PairJudge,
    Preference,
    SemanticF1,
    agreement,
    agrees,
    preferred,
)
from dspex.evaluation.metrics import (
    Metric,
    MetricResult,
    Score,
    answer_passage_match,
    check_metric,
    exact_match,
    f1,
    hotpot_f1,
    normalize_text,
)
from dspex.evaluation.progress import OnProgress, Progress
from dspex.evaluation.repeats import Compared, Repeats
from dspex.evaluation.report import Change, Comparison, Report, RowLatency, Scored
from dspex.evaluation.row_runner import RowRunner, score_of
from dspex.evaluation.value_metrics import json_match, numeric_match

__all__ = [
    "Agreement",
    "Change",
    "CompareAnswers",
    "Compared",
    "Comparison",
    "CompleteAndGrounded",
    "Interval",
    "Judge",
    "Metric",
    "MetricResult",
    "OnProgress",
    "OpenStream",
    "PairJudge",
    "Preference",
    "Progress",
    "Repeats",
    "Report",
    "Row",
    "RowLatency",
    "RowRunner",
    "Score",
    "Scored",
    "SemanticF1",
    "agreement",
    "agrees",
    "answer_passage_match",
    "as_example",
    "check_metric",
    "evaluate",
    "exact_match",
    "f1",
    "hotpot_f1",
    "json_match",
    "mean_interval",
    "normalize_text",
    "numeric_match",
    "preferred",
    "read_rows",
    "score_of",
]
