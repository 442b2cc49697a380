"""Say when much less can be removed than was asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from .plan import StructurePlan

_SHOWN = 5


def warn_of_shortfall(steps: Sequence[StructurePlan], pruning_ratio: float | None) -> None:
    """Warn if less than half of the units go that were asked for, with what stays and why.

    Parameters
    ----------
    steps : sequence of StructurePlan
        Of all pruning steps.
    pruning_ratio : float or None
        Of the units. None: those below a threshold, of which nothing is known where no unit
        has a score.
    """
    first, n_removed = steps[0], sum(step.n_removed for step in steps)
    n_inside = first.n_inside
    if pruning_ratio is None:
        asked, is_short = "", not first.ratios
    else:
        asked = f", but pruning_ratio={pruning_ratio!r} asks for {pruning_ratio * n_inside:.0f}"
        is_short = n_removed < pruning_ratio * n_inside / 2
        is_short = is_short or (pruning_ratio > 0 and not first.ratios)
    if not is_short:
        return
    stays = steps[-1].protected_inside
    reasons = "; ".join(stays[:_SHOWN]) or "units kept by min_units, round_to or the importance"
    more = f"; and {len(stays) - _SHOWN} more, see plan_.protected" if len(stays) > _SHOWN else ""
    warnings.warn(
        f"StructuredPruner removes {n_removed} of the {n_inside} units inside the net{asked}. "
        + (f"These stay: {reasons}{more}." if n_inside else "The net has none."),
        UserWarning,
        stacklevel=2,
    )
