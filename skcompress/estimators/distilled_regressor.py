"""A regressor: a small net, distilled from a larger model."""

from __future__ import annotations

from typing import Any

from sklearn.callback import with_callbacks

from ._base import NetRegressorMixin, OptionalSampleWeight
from ._distillation.base import BaseDistilled


class DistilledRegressor(NetRegressorMixin, BaseDistilled):
    r"""Teach a small net what a larger regressor knows, and predict with it.

    Use it to make a slow, accurate regressor (a forest, boosting, a stack, an
    ensemble of nets, a large net) small and fast. `fit` fits the teacher on the rows
    it is given, lets it predict them, and trains the student on targets and
    predictions together. The loss of a batch B is

    .. math:: \frac{1}{|B|} \Big[ \sum_{i \in L} (1 - \alpha)\, \ell_i + \alpha\, t_i
        + \sum_{i \in B \setminus L} t_i \Big], \qquad t_i = (s_i - r_i)^2

    with L the rows that have a target, :math:`\ell_i` the net's own loss of a row, s
    the student's output and r the teacher's prediction (the mean over several
    outputs). Sample weights count as that many rows.

    Parameters
    ----------
    student : skorch.NeuralNet
        The net to train, unfitted; its module must be given as a class. Its module
        puts out one column for each target.
    teacher : estimator or list of estimators
        A regressor of scikit-learn or a skorch net.
        It is cloned and fitted on the rows that the student trains on. A list is an
        ensemble, the mean of its members. ``FrozenEstimator(fitted)`` is taken as it
        is, with a warning. Random states that are not set are derived from
        `random_state`.
    alpha : float, default=0.5
        Weight of the teacher's term in [0, 1]: 0 is ordinary training, 1 teacher
        only. Rows without labels have the teacher's term alone, with weight 1.
    temperature : float or "auto", default="auto"
        Without effect: values have no temperature. It is there so that searches over
        both kinds of estimator have the same parameters.
    cv : int, splitter or iterable, default=None
        How to split the rows so that each is labelled by a teacher that has not seen
        it; every row must be in one test part. An iterable is of pairs (training rows,
        test rows), numbers of rows of X. None: one teacher labels the rows it was fitted
        on. With `cv`, copies of a row are made of rows in its own part
        and labelled by the same teacher, and other rows get the mean of all.
    augment : {"noise", "mixup", "swap"} or callable, default=None
        How to make new rows for the teacher to label. "noise": normal noise of 0.1
        standard deviations is added to each feature. "mixup": ``s * row + (1 - s) *
        other`` with s uniform in [0.5, 1]. "swap": each feature is that of another row
        with probability 0.1. A function ``f(X, rng)`` returns rows like those it is
        given, drawing from the numpy.random.Generator only. Whole numbers (with
        ``dtype=None``) are left alone by noise and mixup.
    n_augment : int, default=0
        How many copies of each row. 0 makes none, with a warning if `augment` is set.
    control : bool, default=False
        Train the student a second time, with the same steps and the same new rows but
        on labels, and report its score.
    held_out : float, default=0
        Share of the rows in [0, 1) that is held out for the scores in the report if the
        student's `train_split` keeps none. What predicts is fitted on all rows; for the
        scores, teacher, student and control are fitted once more without these, so
        that `fit` takes nearly twice as long. 0: no scores. In a sweep,
        cross-validation gives them.
    keep_teacher : bool, default=False
        Keep the fitted teacher as `teacher_`, in pickles too. It is fitted once more for
        that where its targets were in `memory`; with `cv` it is one of all rows.
    memory : None, str, path-like or joblib.Memory, default=None
        Where the teacher's targets and trained nets are kept, not the teacher. Of a
        joblib.Memory the location is used.
    shape_params : dict of str to str, default=None
        Parameters of the student that follow the data: ``{"module__n_in":
        "n_features", "module__n_out": "n_outputs"}``.
    dtype : {"float32", None}, default="float32"
        What inputs are cast to. None keeps whole numbers, as int64 (token ids);
        other numbers become float32.
    random_state : int, RandomState instance or None, default=None
        Seeds teacher, new rows, initialization, shuffling and dropout. None: drawn from
        numpy's global RNG; with `memory`, derived from the data and the net instead,
        so it then behaves as if fixed.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The student, a net as any other.
    teacher_ : estimator or list of estimators
        The fitted teacher. Only with ``keep_teacher=True``.
    report_ : Bunch
        ``teacher_score`` and ``student_score``: R^2 on ``n_held_out`` rows that
        are kept from both, by the student's `train_split` or else by `held_out`. They
        are None where there are no such rows, and where the teacher has no say
        (``alpha=0`` without new rows). ``control_score`` (None without control);
        ``temperature`` as it was used; ``teacher_trained``, ``dense_trained`` (whether
        this fit trained teacher and student; False: they were in `memory`, or not
        needed); and ``n_params``, ``n_nonzero``, ``sparsity``, ``macs``, ``nbytes`` with their
        ``dense_`` twins and ``history`` as in the compressing estimators.
    n_features_in_ : int
        Length of the second axis of X. Not set for dict inputs.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where X has string ones.

    See Also
    --------
    DistilledClassifier : The same for classification.
    CompressedRegressor : Takes this as its `estimator`, and compresses the student.

    Notes
    -----
    What a teacher knows more than the labels is mostly how it continues between the
    rows, so new rows (`augment`, ``X_unlabeled``) give more than soft targets alone.
    A fair comparison gives the same rows with labels to the same net: `control`.

    The rows that the student's `train_split` keeps for validation are split off
    first: teacher and new rows come from the others, and epochs are scored with the
    net's ordinary loss. So both scores in the report are of rows that none of them
    has trained on; early stopping may have looked at them. skorch's nets keep a
    fifth by default. ``train_split=None`` trains on all rows, and then the scores are
    of a teacher and a student that saw fewer (see `held_out`), both a little worse.

    Teachers of scikit-learn get a DataFrame as it came, arrays as float32 with more than
    two axes flattened, and the labels as given; nets get class numbers. The student
    gets numbers, see `dtype`. In a sweep with `memory` a teacher is fitted once for each
    fold, whatever `temperature`, `alpha` and student are.

    Targets are not scaled: put the estimator into scikit-learn's
    TransformedTargetRegressor for that.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn.ensemble import RandomForestRegressor
    >>> from skorch import NeuralNetRegressor
    >>> from skcompress import DistilledRegressor
    >>> X, y = make_friedman1(n_samples=200, random_state=0)
    >>> net = NeuralNetRegressor(
    ...     torch.nn.Linear,
    ...     module__in_features=10,
    ...     module__out_features=1,
    ...     lr=0.1,
    ...     max_epochs=50,
    ...     verbose=0,
    ... )
    >>> forest = RandomForestRegressor(n_estimators=20)
    >>> reg = DistilledRegressor(net, forest, augment="mixup", n_augment=2, random_state=0)
    >>> report = reg.fit(X, y).report_
    >>> report.n_held_out
    40
    >>> bool(report.student_score > 0.3 and reg.score(X, y) > 0.5)
    True
    """

    _classifies = False

    @OptionalSampleWeight
    @with_callbacks
    def fit(
        self, X: Any, y: Any, X_unlabeled: Any = None, sample_weight: Any = None
    ) -> DistilledRegressor:
        """Fit the teacher, let it teach the student, and keep the student.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Training rows; more axes are allowed.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        X_unlabeled : array-like of shape (n_unlabeled, n_features), default=None
            Rows without targets, which the teacher predicts.
        sample_weight : array-like of shape (n_samples,), default=None
            Only for students that use weights: `forward` names ``sample_weight``, or
            the net has :class:`SampleWeightMixin`. The teacher must take them, too.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y, X_unlabeled, sample_weight)
