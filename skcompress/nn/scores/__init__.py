"""How much weights and units matter, and which of them go.

``weight_importance`` ranks single weights, ``unit_importance`` units, ``sensitivity`` groups of
units by the loss without them.
"""
