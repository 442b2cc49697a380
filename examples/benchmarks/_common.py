"""What the benchmarks share: a net, CPU time in blocks and by part, and records.

Compared things run in one process, in turn, and the figure is the ratio of each
pair: on a shared machine everything slows down together, and ratios stay.
"""

import argparse
import inspect
import json
import os
import platform
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from threadpoolctl import threadpool_limits
from torch import nn

# In every record, see `machine`.
MACHINE_FIELDS = {
    "commit": "commit of the checkout, with -dirty if files differ from it; None outside of one",
    "cpu": "name of the processor",
    "n_cores": "cores that this process may use",
    "memory_gb": "memory of the machine",
    "system": "operating system",
    "load": "processes that wanted to run when the benchmark began, mean of a minute",
    "python": "version",
    "torch": "version",
    "sklearn": "version",
    "skorch": "version",
    "numpy": "version",
}

_LOAD = os.getloadavg()[0]  # before the benchmark itself is a part of it


class MLP(nn.Module):
    """Linear layers of the given widths with ReLU between them."""

    def __init__(self, widths):
        super().__init__()
        layers = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, X):
        return self.layers(X)


def make_net(widths, **params):
    """Return an unfitted skorch classifier that trains on all rows."""
    return NeuralNetClassifier(
        MLP,
        module__widths=widths,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.001,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
        **params,
    )


# --- CPU time ------------------------------------------------------------------------------------


def use_one_thread():
    """Let torch, BLAS and OpenMP compute on one thread, so that CPU time is work done."""
    torch.set_num_threads(1)
    threadpool_limits(limits=1)


def time_blocks(calls, *, n_blocks, seconds):
    """Return, for each call by name, the CPU seconds of one call in every block.

    In a block each call is repeated for about `seconds`, one after the other; where
    a block begins and in which direction it goes changes from block to block.
    """
    n_calls = {name: _n_calls(call, seconds) for name, call in calls.items()}
    times = {name: [] for name in calls}
    names = list(calls)
    for block in range(n_blocks):
        turned = names[block % len(names) :] + names[: block % len(names)]
        for name in turned if block % 2 else reversed(turned):
            call, n = calls[name], n_calls[name]
            start = time.process_time()
            for _ in range(n):
                call()
            times[name].append((time.process_time() - start) / n)
    return {name: np.array(values) for name, values in times.items()}


def _n_calls(call, seconds):
    call()
    n = 1
    while True:
        start = time.process_time()
        for _ in range(n):
            call()
        taken = time.process_time() - start
        if taken > seconds / 4:
            return max(1, round(n * seconds / taken))
        n *= 2


class Clock:
    """CPU seconds and number of calls of named parts of a run.

    What one part does inside of another counts for itself only, so that the parts
    add up. A part inside of itself is one call.
    """

    def __init__(self):
        self.seconds = Counter()
        self.calls = Counter()
        self.running = []
        self._since = 0.0

    @contextmanager
    def part(self, name):
        self._switch()
        self.calls[name] += name not in self.running
        self.running.append(name)
        try:
            yield
        finally:
            self._switch()
            self.running.pop()

    def _switch(self):
        now = time.process_time()
        if self.running:
            self.seconds[self.running[-1]] += now - self._since
        self._since = now

    def timed(self, name, function):
        """Return a function that does the same as a part of this name."""

        def run(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        return run


# --- Figures and records -------------------------------------------------------------------------


def spread(name, values):
    """Return the median and the quartiles of values as fields of a record."""
    q1, median, q3 = (float(q) for q in np.percentile(values, [25, 50, 75]))
    return {name: median, f"{name}_q1": q1, f"{name}_q3": q3}


def spread_fields(name, meaning):
    """Return what the fields that `spread` makes mean."""
    return {name: f"{meaning}, median", f"{name}_q1": "its lower", f"{name}_q3": "upper quartile"}


def machine():
    """Return what a figure depends on besides the code: see `MACHINE_FIELDS`."""
    packages = {"sklearn": "scikit-learn", **{name: name for name in ("torch", "skorch", "numpy")}}
    return {
        "commit": _commit(),
        "cpu": _cpu(),
        "n_cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(_LOAD, 1),
        "python": platform.python_version(),
        **{name: version(package) for name, package in packages.items()},
    }


def _commit():
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


def _cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def parse_arguments(description, fields, add_options=None):
    """Read the command line: ``--quick``, ``--json FILE``; ``--help`` lists the fields.

    `add_options` is called with the parser, where a benchmark has options of its own.
    """
    width = max(map(len, fields))
    listed = "\n".join(f"  {name:{width}}  {meaning}" for name, meaning in fields.items())
    parser = argparse.ArgumentParser(
        description=inspect.cleandoc(description),
        epilog=f"fields of a record:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes: shows that it runs"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the records there")
    if add_options is not None:
        add_options(parser)
    return parser.parse_args()


def write_records(path, records, fields):
    """Write records as a list of dicts of scalars, all with the same fields: None where unknown."""
    facts = machine()
    rows = [{**dict.fromkeys(fields), **facts, **record} for record in records]
    path.write_text(json.dumps(rows, indent=1))
