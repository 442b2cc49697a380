"""Reproducible training: seeded RNGs, restored afterwards, one thread, one split per fold."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

# The global RNGs and torch's thread count belong to the process, so with the
# threading backend only one net may train at a time.
_LOCK = threading.RLock()


@contextmanager
def seeded(seed: int, device: Any = "cpu") -> Iterator[None]:
    """Run a block with seeded global RNGs on one torch thread; restore both afterwards.

    Module initialization, dropout and data loaders draw from torch's global RNG
    and users' augmentation from numpy's or Python's, so these are seeded instead
    of passing generators, which those would not use. One thread, because sums over
    several threads are added up in another order and give other weights; the
    environment variable ``SKCOMPRESS_NUM_THREADS`` sets more. A ``torch.autocast`` around the
    block has no effect in it.
    """
    with _LOCK:
        numpy_state = np.random.get_state()
        python_state = random.getstate()
        n_threads = torch.get_num_threads()
        try:
            with torch.random.fork_rng(devices=_cuda_devices(device)), without_autocast(device):
                torch.default_generator.manual_seed(seed)
                if _cuda_devices(device):
                    torch.cuda.manual_seed_all(seed)
                np.random.seed(seed)
                random.seed(seed)
                torch.set_num_threads(training_threads())
                yield
        finally:
            torch.set_num_threads(n_threads)
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def without_autocast(device: Any = "cpu") -> Iterator[None]:
    """Run a block as if there were no `torch.autocast` around it, which worker processes lack.

    One inside the block, as in a module's own ``forward``, has its effect.
    """
    kinds = {"cpu", "cpu" if device is None else torch.device(device).type}
    with ExitStack() as stack:
        for kind in filter(torch.is_autocast_enabled, kinds):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def training_threads() -> int:
    """Return how many torch threads a training uses (1 unless the environment variable is set)."""
    value = os.environ.get("SKCOMPRESS_NUM_THREADS", "1")
    if not value.isdigit() or int(value) < 1:
        raise ValueError(
            "The environment variable SKCOMPRESS_NUM_THREADS must be a whole number >= 1. "
            f"Got {value!r} instead."
        )
    return int(value)


class SeededSplit:
    """A `train_split` that draws the same random split in every stage of a fold."""

    def __init__(self, split: Any, seed: int) -> None:
        self.split = split
        self.seed = seed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with seeded(self.seed):
            return self.split(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "split":  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self.split, name)


def _cuda_devices(device: Any) -> list[int]:
    if device is None or torch.device(device).type != "cuda":
        return []
    return list(range(torch.cuda.device_count()))
