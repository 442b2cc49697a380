"""Plots of finished sweeps. They need matplotlib: ``pip install "skcompress[plot]"``."""

from ._pareto import ParetoDisplay

__all__ = ["ParetoDisplay"]
