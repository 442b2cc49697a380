"""How much weights and units matter, and which of them are removed.

``weight_importance`` ranks single weights; ``unit_importance`` scores units by their weights,
``sensitivity`` by the loss without them, and ``unit_selection`` chooses among the scored ones.
"""
