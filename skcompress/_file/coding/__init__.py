"""Entropy coding: arrays of numbers to the shortest of several byte streams, and back.

``arrays`` chooses among codings, ``huffman`` and ``mixing`` are two of them, ``byte_streams``
frames the results and reads them again.
"""
