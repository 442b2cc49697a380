"""Knowledge of torch's layers: their weights, sizes and costs, and how to change them.

``weights`` lists the weights of a module, ``uses`` notes which parameters of users' modules are
some, ``sizes`` lists the shapes of its tensors. ``counting`` counts parameters and zeros, ``macs``
multiply-accumulates. ``copying`` and ``precision`` copy modules,
``folding`` and ``low_rank`` change single layers, ``attention`` holds an attention layer of fewer
heads, ``losses`` the terms of distillation, ``decomposed`` lets torch run products one by one.
"""
