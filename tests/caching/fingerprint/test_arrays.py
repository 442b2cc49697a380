"""Arrays, tensors, modules, frames and sparse matrices count by what they contain."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.stats
import torch
import torch.nn.utils.prune
from hypothesis import given
from hypothesis.extra import numpy as hnp
from torch import nn

from skcompress._caching.fingerprint import fingerprint

# --- numpy -------------------------------------------------------------------------------------


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
def test_arrays_are_dtype_shape_and_content(array):
    digest = fingerprint(array)
    assert digest == fingerprint(array.copy())
    assert digest == fingerprint(np.array(array, order="F"))
    wide = np.empty((*array.shape, 2), dtype=array.dtype)
    wide[..., 0] = array
    assert digest == fingerprint(wide[..., 0])
    assert digest != fingerprint(array[None])


ARRAYS = [
    np.zeros(4),
    np.zeros((2, 2)),
    np.zeros(4, dtype="f4"),
    np.zeros(4, dtype=">f8"),
    np.zeros(8, dtype="f4"),
    np.zeros(4, dtype=int),
    np.zeros(4, dtype=bool),
    np.array(0.0),
    np.float64(0.0),
    np.float32(0.0),
    0.0,
    np.zeros((0, 4)),
    np.zeros((4, 0)),
    np.array(["a", "bc"]),
    np.array(["a", "bd"]),
    np.array([b"a", b"bc"]),
    np.array(["a", "bc"], dtype=object),
    np.array(["a", None], dtype=object),
    np.array(["a", "bc"], dtype=np.dtypes.StringDType()),
    np.array(["2020-01-01"], dtype="M8[D]"),
    np.array(["2020-01-01"], dtype="M8[s]"),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("c", "f8")]),
    np.ma.masked_array([0.0, 1.0], [0, 1]),
    np.ma.masked_array([0.0, 1.0], [0, 0]),
    np.dtype("f4"),
    np.dtype("f8"),
    np.dtype("M8[D]"),
    np.dtype([("a", "i4")]),
    np.float32,
]


def test_different_arrays_have_different_digests():
    assert len({fingerprint(array) for array in ARRAYS}) == len(ARRAYS)


def test_padding_between_fields_is_no_content():
    dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    one = np.frombuffer(b"\x00" * 16, dtype)
    other = np.frombuffer(b"\x00" + b"\xff" * 7 + b"\x00" * 8, dtype)
    assert fingerprint(one) == fingerprint(other)


def test_object_arrays_go_element_by_element():
    one = np.array([np.zeros(2), "x" * 1000, None, [1]], dtype=object)
    other = copy.deepcopy(one)
    assert fingerprint(one) == fingerprint(other)
    other[0][1] = 1
    assert fingerprint(one) != fingerprint(other)


def test_a_memory_map_counts_as_the_array_that_it_shows(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert type(mapped) is np.memmap
    assert fingerprint(mapped) == fingerprint(array)
    assert fingerprint(mapped[:, 1:]) == fingerprint(array[:, 1:])


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (np.random.RandomState, lambda rng: rng.rand()),
        (np.random.default_rng, lambda rng: rng.random()),
        (np.random.default_rng, lambda rng: rng.spawn(1)),
        (np.random.SeedSequence, lambda rng: rng.spawn(1)),
        (np.random.MT19937, lambda rng: rng.random_raw()),
        (
            lambda seed: torch.Generator().manual_seed(seed),
            lambda rng: torch.rand(1, generator=rng),
        ),
    ],
)
def test_generators_of_random_numbers_are_their_state(make, draw):
    rng = make(3)
    assert fingerprint(rng) == fingerprint(make(3)) != fingerprint(make(4))
    draw(rng)
    assert fingerprint(rng) != fingerprint(make(3))


# --- torch -------------------------------------------------------------------------------------

TENSORS = [
    torch.zeros(4),
    torch.zeros(2, 2),
    torch.zeros(4, dtype=torch.bfloat16),
    torch.zeros(4, dtype=torch.float16),
    torch.zeros(4, dtype=torch.complex64),
    torch.zeros(4, dtype=torch.bool),
    torch.tensor(0.0),
    torch.zeros(0, 4),
    torch.ones(4, dtype=torch.bfloat16),
    nn.Parameter(torch.zeros(4)),
    nn.Parameter(torch.zeros(4), requires_grad=False),
    nn.UninitializedParameter(),
    torch.eye(2).to_sparse(),
    torch.float32,
    torch.float64,
    torch.device("cpu"),
    torch.device("cuda:1"),
    torch.Size([1]),
    torch.Size([2]),
    (1,),
    torch.strided,
    torch.channels_last,
]


def test_different_tensors_have_different_digests():
    assert len({fingerprint(tensor) for tensor in TENSORS}) == len(TENSORS)


def test_how_a_tensor_lies_in_memory_is_no_content():
    tensor = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    digest = fingerprint(tensor)
    assert digest == fingerprint(tensor.T.contiguous().T)
    assert digest == fingerprint(tensor.clone().requires_grad_())
    complex_ = torch.complex(tensor, tensor)
    assert fingerprint(complex_.conj()) == fingerprint(complex_.conj().resolve_conj())
    assert fingerprint(complex_.conj()) != fingerprint(complex_)


def modules():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.LSTM(4, 2))


CHANGES = {
    "weight": lambda m: m[0].weight.data.add_(1),
    "buffer": lambda m: m[1].running_mean.add_(1),
    "attribute": lambda m: setattr(m[1], "momentum", 0.5),
    "order": lambda m: m._modules.update({"1": m._modules.pop("1")}),
    "kind": lambda m: m.__setitem__(2, nn.Tanh()),
    "more": lambda m: m.append(nn.ReLU()),
    "fewer": lambda m: m.pop(2),
    "frozen": lambda m: m[0].weight.requires_grad_(False),
    "hook": lambda m: m[0].register_forward_hook(lambda module, args, output: output + 1),
    "recurrent": lambda m: m[3].weight_hh_l0.data.add_(1),
}


def test_a_module_is_class_state_and_attributes():
    digest = fingerprint(modules())
    assert digest == fingerprint(copy.deepcopy(modules()))
    assert digest == fingerprint(modules().eval())
    changed = []
    for change in CHANGES.values():
        module = modules()
        change(module)
        changed.append(fingerprint(module))
    assert len({digest, *changed}) == 1 + len(CHANGES)


def special_modules():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = nn.Linear(2, 3)
        return [
            nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)),
            nn.utils.parametrizations.spectral_norm(nn.Linear(2, 3)),
            nn.LazyLinear(3),
            nn.TransformerEncoderLayer(4, 2, 8),
            nn.utils.prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
            torch.compile(linear, backend="eager"),
            torch.compile(nn.Linear(2, 3), backend="eager"),
        ]


def test_modules_that_torch_makes_in_special_ways():
    digests = list(map(fingerprint, special_modules()))
    assert len(set(digests)) == len(digests)
    assert digests == list(map(fingerprint, special_modules()))


def test_hooks_count_by_what_they_do_not_by_their_number():
    def hook(module, args, output):
        return output * 2

    one, other = modules(), modules()
    one[0].register_forward_hook(hook)
    other[0].register_forward_hook(hook)
    assert list(one[0]._forward_hooks) != list(other[0]._forward_hooks)
    assert fingerprint(one) == fingerprint(other)


# --- pandas and scipy --------------------------------------------------------------------------


def frame(**changes):
    columns = {
        "a": [1.0, 2.0, np.nan],
        "b": ["x", "y", None],
        "c": pd.Categorical(["u", "v", "u"]),
        "d": pd.to_datetime(["2020-01-01", "2020-01-02", None]).tz_localize("Europe/Berlin"),
        "e": pd.array([1, None, 3], dtype="Int64"),
    }
    return pd.DataFrame({**columns, **changes})


def test_frames_are_names_index_dtypes_and_content():
    tables = [
        frame(),
        frame(a=[1.0, 2.0, 3.0]),
        frame(a=[1, 2, 3]),
        frame(b=["x", "y", "z"]),
        frame(c=pd.Categorical(["u", "v", "u"], categories=["v", "u"])),
        frame(c=pd.Categorical(["u", "v", "u"], ordered=True)),
        frame(c=["u", "v", "u"]),
        frame(d=pd.to_datetime(["2020-01-01", "2020-01-02", None])),
        frame(e=[1, 2, 3]),
        frame().rename(columns={"a": "z"}),
        frame().set_index([[1, 2, 3]]),
        frame().set_index(pd.MultiIndex.from_tuples([(1, 1), (1, 2), (2, 1)])),
        frame()[["b", "a", "c", "d", "e"]],
        frame()["a"],
        frame()["a"].rename("z"),
        frame()["a"].to_numpy(),
        pd.Index([1, 2]),
        pd.Index([1, 2], name="z"),
        pd.Timestamp("2020-01-01"),
        pd.NA,
    ]
    assert len({fingerprint(table) for table in tables}) == len(tables)
    for table in tables:
        assert fingerprint(table) == fingerprint(pickle.loads(pickle.dumps(table)))
    assert fingerprint(frame()) == fingerprint(
        pd.concat([frame()[["a", "b"]], frame().iloc[:, 2:]], axis=1)
    )


def test_distributions():
    one = scipy.stats.loguniform(1e-3, 1)
    others = [scipy.stats.loguniform(1e-2, 1), scipy.stats.uniform(1e-3, 1)]
    assert fingerprint(one) == fingerprint(copy.deepcopy(one))
    assert len(set(map(fingerprint, [one, *others]))) == 3


def test_sparse_matrices():
    dense = np.eye(3)
    kinds = ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"]
    matrices = [
        getattr(scipy.sparse, f"{k}_{s}")(dense) for k in kinds for s in ("matrix", "array")
    ]
    digests = [fingerprint(matrix) for matrix in matrices]
    assert len(set(digests)) == len(matrices)
    assert digests == [fingerprint(matrix.copy()) for matrix in matrices]
    for matrix, digest in zip(matrices, digests, strict=True):
        assert fingerprint(matrix * 2) != digest
    wide = scipy.sparse.csr_array(dense)
    wide.indices = wide.indices.astype(np.int64)
    assert fingerprint(wide) == fingerprint(scipy.sparse.csr_array(dense))
