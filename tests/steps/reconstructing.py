"""What the tests of `reconstruct` share."""

import numpy as np
from sklearn.base import clone

from skcompress._nets import predict_raw


def both(step, net, data):
    """Return what becomes of a net without and with new weights, and the second step."""
    with_it = clone(step).set_params(reconstruct=True)
    return clone(step).fit_transform(net, data), with_it.fit_transform(net, data), with_it


def missed(net, other, X):
    """Return how far the outputs of two nets are apart, as a share of what the first puts out."""
    a, b = (predict_raw(one, X) for one in (net, other))
    return float(np.square(a - b).sum() / np.square(a).sum())
