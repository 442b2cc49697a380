"""The same digest in every process, for what is defined in ``__main__`` too."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

DEFINITIONS = '''
import collections
import dataclasses
import enum
import functools

import numpy as np
import torch
from joblib import Parallel, delayed
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochScoring
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import FineTuner, MagnitudePruner
from skcompress._caching.fingerprint import fingerprint

import mine

HIDDEN = 32
KINDS = {"relu", "tanh", "gelu", "silu", "elu"}
Pair = collections.namedtuple("Pair", ["left", "right"])


class Mode(enum.Enum):
    SOFT = "soft"
    HARD = "hard"

    def strength(self):
        return 1 if self is Mode.SOFT else 7


@dataclasses.dataclass
class Options:
    rate: float = 0.5
    names: list = dataclasses.field(default_factory=list)


class Base(nn.Module):
    """Base of the modules."""

    @property
    def width(self):
        return HIDDEN


def helper(X, kinds=frozenset({"a", "b", "c", "d"})):
    return X * 2 if X in {"p", "q", "r"} else mine.shift(X)


class Module(Base):
    mode = Mode.SOFT

    def __init__(self, n_in=4, options=Options()):
        super().__init__()
        self.layer = nn.Linear(n_in, HIDDEN)
        self.out = nn.Linear(HIDDEN, 2)

    @staticmethod
    def again():
        return Module

    @torch.no_grad()
    def probe(self, X: torch.Tensor) -> torch.Tensor:
        return [helper(x) for x in X]

    def forward(self, X):
        """Forward."""
        return self.out(torch.relu(self.layer(X)) * len(KINDS) * Pair(1, 2).left)


class Stop(Callback):
    def __init__(self, patience=3):
        self.patience = patience

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) > self.patience + HIDDEN:
            raise KeyboardInterrupt


class Net(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred, y_true, *args, **kwargs) + mine.SLOPE


def make(power):
    return lambda X: X**power


def net():
    return Net(
        Module,
        criterion=nn.CrossEntropyLoss,
        optimizer=functools.partial(torch.optim.SGD, momentum=0.9),
        callbacks=[("stop", Stop()), EarlyStopping(), EpochScoring(lambda net, X, y: 1.0)],
        train_split=ValidSplit(5, stratified=True),
        verbose=0,
        module__options=Options(rate=1.0),
        iterator_train__generator=torch.Generator().manual_seed(0),
    )


def digests(net, X, others):
    net_digest = fingerprint(type(net), net.get_params(deep=False))
    return [net_digest, fingerprint(net), fingerprint(X)] + [fingerprint(one) for one in others]


def arguments():
    X = np.arange(400_000.0).reshape(-1, 4)  # large enough for joblib to send it as a file
    step = MagnitudePruner(0.5, n_steps=2, fine_tuner=FineTuner())
    values = [KINDS, {"a": {1, "b"}}, Options(), Pair(1, 2), Mode.HARD, {Mode.SOFT, Mode.HARD}]
    code = [Module, Net, helper, make(3), Module.probe, Module.again, Options, Mode, Pair]
    return net(), X, [*values, *code, step, mine.Mine()]
'''

MAIN = """
if __name__ == "__main__":
    import json
    import os

    parent = digests(*arguments())
    used = arguments()
    used[0].initialize()
    used[0].module_(torch.zeros(3, 4))
    make(3)(2), Mode.HARD.strength(), used[0].module_.probe(["p"])
    after = digests(used[0], *arguments()[1:])
    os.environ["PYTHONHASHSEED"] = "2"  # for the worker: it is a new process, not a fork
    tasks = [delayed(digests)(*arguments()), delayed(hash)("a")]
    worker, worker_hash = Parallel(n_jobs=2)(tasks)
    print(json.dumps([parent, after, worker, [hash("a"), worker_hash]]))
"""

MINE = """
SLOPE = 0.1


class Mine:
    sizes = {"a", "b", "c"}


def shift(X):
    return X + SLOPE
"""


def run(folder, script):
    (folder / "mine.py").write_text(MINE)
    path = folder / "script.py"
    path.write_text(script)
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_worker_with_another_hash_seed_sees_what_its_parent_sees(tmp_path):
    at_first, after_use, in_worker, hashes = run(tmp_path, DEFINITIONS + MAIN)
    assert hashes[0] != hashes[1]
    assert len(set(at_first)) == len(at_first)
    assert at_first == after_use == in_worker
