"""Plots of finished sweeps and scans. They need matplotlib: ``pip install "skcompress[plot]"``."""

from .pareto_display import ParetoDisplay
from .sensitivity_display import SensitivityDisplay

__all__ = ["ParetoDisplay", "SensitivityDisplay"]
