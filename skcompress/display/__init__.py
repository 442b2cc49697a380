"""Plots of finished sweeps and scans. They need matplotlib: ``pip install "skcompress[plot]"``."""

from ._pareto import ParetoDisplay
from ._sensitivity import SensitivityDisplay

__all__ = ["ParetoDisplay", "SensitivityDisplay"]
