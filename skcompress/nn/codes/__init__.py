"""Weights as packed integers.

``grids`` chooses scales and zero points, ``quantization`` turns numbers into codes and back,
``bit_packing`` stores codes without gaps, ``packed_weight`` keeps both in a module,
``coded_layers`` makes layers that read such weights, ``finite`` tells whether numbers can have
codes at all.
"""
