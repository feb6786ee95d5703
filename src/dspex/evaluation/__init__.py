"""Evaluation: metrics, the evaluator that runs a program over examples, and the report it makes."""

from dspex.evaluation._examples import Row, as_example, read_rows
from dspex.evaluation.evaluator import OpenStream, evaluate
from dspex.evaluation.intervals import Interval, mean_interval
from dspex.evaluation.metrics import (
    Metric,
    MetricResult,
    Score,
    answer_passage_match,
    check_metric,
    exact_match,
    f1,
    normalize_text,
)
from dspex.evaluation.progress import OnProgress, Progress
from dspex.evaluation.report import Change, Comparison, Report, RowLatency, Scored
from dspex.evaluation.row_runner import RowRunner, score_of

__all__ = [
    "Change",
    "Comparison",
    "Interval",
    "Metric",
    "MetricResult",
    "OnProgress",
    "OpenStream",
    "Progress",
    "Report",
    "Row",
    "RowLatency",
    "RowRunner",
    "Score",
    "Scored",
    "answer_passage_match",
    "as_example",
    "check_metric",
    "evaluate",
    "exact_match",
    "f1",
    "mean_interval",
    "normalize_text",
    "read_rows",
    "score_of",
]
