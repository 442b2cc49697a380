"""Plain torch and numpy: what the steps compute, without scikit-learn and skorch.

Each package imports from those below it only:

``surgery``
    Remove units, constants and norm layers from a module, and prove each removal.
``scores``
    How much a weight or a unit matters.
``discovery``
    Which parameters of a user's own modules are weights.
``graph``
    Which units a module has: a tracer, rules for torch's operations, groups of units.
``reconstruction``
    New weights for a layer, by least squares over samples of its inputs.
``modules``
    Known layers: which of their tensors are weights, copies, counts, folding, low rank, losses.
``codes``
    Weights as packed integers, and layers that read them.
"""
