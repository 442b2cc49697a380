"""On every net of the zoo new weights bring the outputs nearer, or change nothing."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNet

from skcompress import MagnitudePruner, Quantizer, StructuredPruner, TrainingData
from skcompress._nets import predict_raw
from tests.nn.zoo import CASES

QUICK = {"mlp with batch norm and dropout", "ResNet-like", "stacked bidirectional LSTM"}
# Their inputs are several arrays without names, which skorch does not hand over.
NO_NETS = {"embeddings of columns", "graph convolution"}
EACH = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow, id=name)
    for name in CASES
    if name not in NO_NETS
]
STEPS = [MagnitudePruner(0.8), Quantizer(2), StructuredPruner(0.5, scope="layer")]

pytestmark = pytest.mark.filterwarnings("ignore")  # of nets that warn, and of nothing to change


def distance(net, other, X):
    a, b = (predict_raw(one, X) for one in (net, other))
    return float(np.square(np.abs(a - b)).sum())


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("name", EACH)
def test_nearer_or_as_without(name, step):
    case = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        rows, module = case.rows(40), case.module()
    X = {k: v.numpy() for k, v in rows.items()} if isinstance(rows, dict) else rows.numpy()
    net = NeuralNet(module, torch.nn.MSELoss, train_split=None, verbose=0, batch_size=16)
    net.initialize()
    data = TrainingData(X, np.zeros(40, np.float32))
    with_it = clone(step).set_params(reconstruct=True)
    try:
        plain = clone(step).fit_transform(net, data)
    except Exception as error:
        with pytest.raises(type(error)):
            with_it.fit(net, data)
        return
    new = with_it.fit_transform(net, data)
    far, near = distance(net, plain, X), distance(net, new, X)
    assert near < far if with_it.report_.reconstruction else near == pytest.approx(far, rel=1e-5)
