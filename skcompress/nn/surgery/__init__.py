"""Remove units from a module for good, and prove that nothing else has changed.

``shrinking`` removes units, ``proof`` compares the result, ``dead_units`` finds units that can go
without a change of the outputs, with the help of ``constants`` (what a weight reads is constant,
by ``reach_marks``) and ``norms`` (norm layers that fold into the layer before them).
"""
