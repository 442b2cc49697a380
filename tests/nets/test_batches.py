"""Batches come in order with their targets, and their loss is the net's own."""

import numpy as np
import pytest
import torch

from skcompress._nets import batch_loss, batches_of, copy_net, limit_batch_size, validation_loss


def test_batches_hold_all_rows_in_order_with_their_targets(fitted_classifier, digits):
    X, y = digits[0][:300], digits[1][:300]
    net = copy_net(fitted_classifier)
    limit_batch_size(net, 60)
    parts = list(batches_of(net, X, y))
    assert [len(part_y) for _, part_y in parts] == [60, 60, 60, 60, 60]
    np.testing.assert_array_equal(torch.cat([part_X for part_X, _ in parts]).numpy(), X)
    np.testing.assert_array_equal(torch.cat([part_y for _, part_y in parts]).numpy(), y)


@pytest.mark.parametrize(("own", "expected"), [(-1, 100), (64, 64), (256, 100)])
def test_batches_are_not_made_larger(fitted_classifier, own, expected):
    net = copy_net(fitted_classifier).set_params(batch_size=own)
    limit_batch_size(net, 100)
    assert net.batch_size == expected


def test_a_validation_loss_has_no_gradient_and_a_batch_loss_has(fitted_classifier, digits):
    net = copy_net(fitted_classifier)
    batch = next(batches_of(net, digits[0][:50], digits[1][:50]))
    net.module_.eval()
    loss = batch_loss(net, *batch)
    assert validation_loss(net, batch) == pytest.approx(loss.item())
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.module_.parameters())
