import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skcompress.nn.scores.weight_importance import cubic_schedule, magnitude_masks

# Few different values, so that ties and zeros are common.
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
values = st.lists(st.integers(-4, 4).map(lambda i: i / 4), min_size=1, max_size=12)


@st.composite
def weight_dicts(draw):
    dtype = draw(st.sampled_from(DTYPES))
    lists = draw(st.lists(values, min_size=1, max_size=4))
    return {f"w{i}": torch.tensor(v, dtype=dtype) for i, v in enumerate(lists)}


def smallest_first(arrays, sparsity):
    """The definition, element by element."""
    arrays = [float(w) for w in arrays]
    order = sorted((abs(w), i) for i, w in enumerate(arrays))
    mask = np.zeros(len(arrays), dtype=bool)
    mask[[i for _, i in order[: round(sparsity * len(arrays))]]] = True
    return mask | (np.asarray(arrays) == 0)


@given(weight_dicts(), st.floats(0, 1))
def test_global_sparsity_is_the_definition(weights, sparsity):
    masks = magnitude_masks(weights, sparsity=sparsity)
    flat = [float(x) for w in weights.values() for x in w]
    expected = smallest_first(flat, sparsity)
    assert list(masks) == list(weights)
    np.testing.assert_array_equal(torch.cat(list(masks.values())).numpy(), expected)
    assert expected.sum() == max(round(sparsity * len(flat)), sum(x == 0 for x in flat))


@given(weight_dicts(), st.floats(0, 1))
def test_layer_sparsity_is_the_definition_in_each_tensor(weights, sparsity):
    masks = magnitude_masks(weights, sparsity=sparsity, scope="layer")
    for name, weight in weights.items():
        np.testing.assert_array_equal(masks[name].numpy(), smallest_first(weight, sparsity))


@given(weight_dicts(), st.integers(0, 5).map(lambda i: i / 4))
def test_threshold_keeps_what_equals_it(weights, threshold):
    for name, mask in magnitude_masks(weights, threshold=threshold).items():
        array = weights[name].double().numpy()
        np.testing.assert_array_equal(mask.numpy(), (abs(array) < threshold) | (array == 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_written_like_the_threshold_stays(dtype):
    weight = torch.tensor([0.7, 0.6, 0.3], dtype=dtype)  # none is a float16, say
    for threshold, expected in [(0.7, [False, True, True]), (0.3, [False, False, False])]:
        mask = magnitude_masks({"w": weight}, threshold=threshold)["w"]
        assert mask.tolist() == expected


def test_global_order_compares_tensors_of_different_dtype_exactly():
    weights = {"a": torch.tensor([0.1], dtype=torch.float64), "b": torch.tensor([0.1])}
    # 0.1 as float32 is a little above 0.1 as float64
    assert magnitude_masks(weights, sparsity=0.5) == {"a": torch.tensor([True]), "b": False}


def test_shapes_are_kept_and_the_weights_untouched():
    weights = {"a": torch.randn(3, 2, 2), "b": torch.randn(4, requires_grad=True)}
    before = {k: v.detach().clone() for k, v in weights.items()}
    for scope in ("global", "layer"):
        masks = magnitude_masks(weights, sparsity=0.5, scope=scope)
        for name, mask in masks.items():
            assert mask.dtype == torch.bool
            assert mask.shape == weights[name].shape
            assert torch.equal(weights[name].detach(), before[name])


def test_extreme_values():
    weight = torch.tensor([1e-45, float("inf"), 3e38, -1e30, 0.0, -float("inf")])
    mask = magnitude_masks({"w": weight}, sparsity=0.5)["w"]
    assert mask.tolist() == [True, False, False, True, True, False]
    small = torch.tensor([6e-8, 65504.0], dtype=torch.float16)
    assert magnitude_masks({"w": small}, threshold=1e-10)["w"].tolist() == [False, False]
    assert magnitude_masks({"w": small}, threshold=1e9)["w"].tolist() == [True, True]


def test_empty_inputs():
    assert magnitude_masks({}, sparsity=0.5) == {}
    assert magnitude_masks({}, threshold=1.0) == {}
    empty = magnitude_masks({"w": torch.zeros(0, 3)}, sparsity=0.5)
    assert empty["w"].shape == (0, 3)


def test_everything_can_go_and_nothing_can():
    weights = {"w": torch.randn(5)}
    assert magnitude_masks(weights, sparsity=1)["w"].all()
    assert not magnitude_masks(weights, sparsity=0)["w"].any()


def test_nan_is_refused_by_name():
    weights = {"good": torch.ones(2), "bad": torch.tensor([1.0, float("nan")])}
    for target in ({"sparsity": 0.5}, {"threshold": 0.5}):
        with pytest.raises(ValueError, match="'bad' contains nan"):
            magnitude_masks(weights, **target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "sparsity=None and threshold=None, but expected exactly one"),
        ({"sparsity": 0.5, "threshold": 0.1}, "sparsity=0.5 and threshold=0.1"),
        ({"sparsity": 1.5}, "sparsity=1.5"),
        ({"sparsity": float("nan")}, "sparsity=nan"),
        ({"threshold": -1.0}, "threshold=-1.0"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"sparsity": 0.5, "scope": "all"}, "scope='all', but expected 'global' or 'layer'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        magnitude_masks({"w": torch.ones(2)}, **arguments)


@given(st.floats(0, 1), st.integers(1, 30), st.floats(0, 1))
def test_schedule_rises_to_exactly_its_end(final, n_steps, share):
    initial = final * share
    steps = cubic_schedule(final, n_steps, initial)
    assert len(steps) == n_steps
    assert steps[-1] == final
    path = [initial, *steps]
    jumps = np.diff(path)
    assert (jumps >= -1e-12).all()
    assert (np.diff(jumps) <= 1e-12).all()  # each step is smaller than the one before


def test_schedule_is_equation_one_of_the_paper():
    steps = cubic_schedule(0.9, 4, 0.1)
    expected = [0.9 + (0.1 - 0.9) * (1 - t / 4) ** 3 for t in (1, 2, 3, 4)]
    assert steps == pytest.approx(expected)
    assert steps[0] == pytest.approx(0.5625)


@pytest.mark.parametrize("arguments", [(0.5, 0), (0.5, 3, 0.6), (1.5, 3), (0.5, 3, -0.1)])
def test_schedule_refuses(arguments):
    with pytest.raises(ValueError, match=r"but expected .*>= 1|but expected 0 <= initial"):
        cubic_schedule(*arguments)
