"""Scored replies -> measurements, comparison, gate. Knows nothing of models, files of a run, or how a judge judges."""

from primum.evaluation.metrics import Scored

__all__ = ["Scored"]
