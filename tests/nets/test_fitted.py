"""What a net has become by its training."""

from sklearn.base import clone

from skcompress._nets import history_rows, is_fitted
from skcompress._nets.fitted import learned_by_net


def test_a_net_is_fitted_once_it_has_weights(classifier):
    assert not is_fitted(classifier)
    assert is_fitted(classifier.initialize())
    assert not is_fitted(clone(classifier))


def test_history_rows_are_plain_copies(fitted_classifier):
    rows = history_rows(fitted_classifier)
    assert [row["epoch"] for row in rows] == list(range(1, len(fitted_classifier.history_) + 1))
    rows[0]["epoch"] = -1
    assert fitted_classifier.history_[0, "epoch"] == 1


def test_what_a_net_predicts_with_are_modules_and_parameters_without_the_training(
    fitted_classifier,
):
    learned = learned_by_net(fitted_classifier)
    assert learned["module_"] is fitted_classifier.module_
    assert {"criterion_", "classes_inferred_", "max_epochs"} <= learned.keys()
    assert {"optimizer_", "callbacks_", "history_"}.isdisjoint(learned)
