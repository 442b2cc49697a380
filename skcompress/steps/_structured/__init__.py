"""What :class:`StructuredPruner` is made of.

``traced`` watches the net, ``ranking`` orders its units by what ``rows`` measures, ``plan`` says
which go.
"""
