"""Remove units from a module for good, and prove that nothing else has changed.

``shrinking`` removes units, and ``resizing`` sets the sizes that layers keep as attributes.
``proof`` runs the net before and after, and ``comparison`` compares the outputs. ``norms`` folds
norm layers into the layers before them. ``dead_units`` finds units whose removal does not change
the outputs, with the help of ``constants``: which inputs of a weight do not depend on the rows,
by the rules of ``row_dependence``.
"""
