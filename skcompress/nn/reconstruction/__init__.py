"""New weights for a layer, so that its outputs come near to those it had before.

``layer_samples`` draws samples of a layer's inputs and outputs, ``constraints`` says which form the
weights must have (zeros, levels), ``least_squares`` solves for them.
"""
