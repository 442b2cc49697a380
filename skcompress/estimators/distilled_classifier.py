"""A classifier: a small net, distilled from a larger model."""

from __future__ import annotations

from typing import Any

from sklearn.callback import with_callbacks

from ._base import NetClassifierMixin, OptionalSampleWeight
from ._distillation.base import BaseDistilled


class DistilledClassifier(NetClassifierMixin, BaseDistilled):
    r"""Teach a small net what a larger classifier knows, and classify with it.

    Use it to make a slow, accurate classifier (a forest, boosting, a stack, an
    ensemble of nets, a large net) small and fast. `fit` fits the teacher on the rows
    it is given, lets it label them, and trains the student on labels and answers
    together. The loss of a batch B is

    .. math:: \frac{1}{|B|} \Big[ \sum_{i \in L} (1 - \alpha)\, \ell_i + \alpha\, t_i
        + \sum_{i \in B \setminus L} t_i \Big],
        \qquad t_i = T^2\, KL(p_{i,T} \| q_{i,T})

    with L the rows that have a label, :math:`\ell_i` the net's own loss of a row, p
    the teacher's probabilities raised to 1/T and normalized, q the student's
    softmax of logits / T (Hinton et al., 2015). Sample weights count as that many
    rows.

    Parameters
    ----------
    student : skorch.NeuralNet
        The net to train, unfitted; its module must be given as a class. Nets end
        in logits with CrossEntropyLoss, in probabilities with NLLLoss, in one logit
        with BCEWithLogitsLoss, for two classes, or one for each of several labels.
    teacher : estimator or list of estimators
        A classifier of scikit-learn with `predict_proba` (or `decision_function`, whose
        softmax, or sigmoid for two classes, is taken), or a skorch net.
        It is cloned and fitted on the rows that the student trains on. A list is an
        ensemble, the mean of its members. ``FrozenEstimator(fitted)`` is taken as it
        is, with a warning. Random states that are not set are derived from
        `random_state`.
    alpha : float, default=0.5
        Weight of the teacher's term in [0, 1]: 0 is ordinary training, 1 teacher
        only. Rows without labels have the teacher's term alone, with weight 1.
    temperature : float or "auto", default="auto"
        T > 0. "auto": 2 for nets, whose softmax is sharper than what they know, and 1
        for all others, whose probabilities are no softmax.
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
        "n_features", "module__n_out": "n_classes"}``; of an indicator matrix
        "n_classes" is the number of labels.
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
        The student, a net as any other. Its targets are class numbers, see
        `classes_`.
    teacher_ : estimator or list of estimators
        The fitted teacher. Only with ``keep_teacher=True``.
    report_ : Bunch
        ``teacher_score`` and ``student_score``: accuracy on ``n_held_out`` rows that
        are kept from both, by the student's `train_split` or else by `held_out`. They
        are None where there are no such rows, and where the teacher has no say
        (``alpha=0`` without new rows). ``control_score`` (None without control);
        ``temperature`` as it was used; ``teacher_trained``, ``dense_trained`` (whether
        this fit trained teacher and student; False: they were in `memory`, or not
        needed); and ``n_params``, ``n_nonzero``, ``sparsity``, ``macs``, ``nbytes`` with their
        ``dense_`` twins and ``history`` as in the compressing estimators.
    classes_ : ndarray of shape (n_classes,)
        Class labels; of an indicator matrix the numbers of its columns.
    n_features_in_ : int
        Length of the second axis of X. Not set for dict inputs.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where X has string ones.

    See Also
    --------
    DistilledRegressor : The same for regression.
    CompressedClassifier : Takes this as its `estimator`, and compresses the student.

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
    gets numbers, see `dtype`. Where y is an indicator matrix of several labels, each
    label is a question of two answers with a term :math:`t_i` of its own, of which the
    mean is taken, and a score is the share of rows with all labels right. In a sweep
    with `memory` a teacher is fitted once for each fold, whatever `temperature`, `alpha`
    and student are.

    References
    ----------
    Hinton, Vinyals, Dean (2015), "Distilling the Knowledge in a Neural Network".
    Bucila, Caruana, Niculescu-Mizil (2006), "Model Compression".

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skorch import NeuralNetClassifier
    >>> from skcompress import DistilledClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear,
    ...     module__in_features=4,
    ...     module__out_features=3,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     lr=0.1,
    ...     max_epochs=50,
    ...     batch_size=16,
    ...     iterator_train__shuffle=True,
    ...     train_split=None,
    ...     verbose=0,
    ... )
    >>> forest = RandomForestClassifier(n_estimators=20, max_depth=4)
    >>> clf = DistilledClassifier(net, forest, random_state=0).fit(X, y)
    >>> bool(clf.score(X, y) > 0.9)
    True

    New rows for the teacher to label, and what a net without teacher makes of them:

    >>> clf.set_params(augment="mixup", n_augment=2, control=True, held_out=0.2)
    DistilledClassifier(...)
    >>> report = clf.fit(X, y).report_
    >>> report.n_held_out
    30
    >>> bool(report.student_score > 0.8 and report.control_score > 0.8)
    True
    """

    _classifies = True

    @OptionalSampleWeight
    @with_callbacks
    def fit(
        self, X: Any, y: Any, X_unlabeled: Any = None, sample_weight: Any = None
    ) -> DistilledClassifier:
        """Fit the teacher, let it teach the student, and keep the student.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or dict of arrays
            Training rows; more axes are allowed.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, of any type. Or an indicator matrix of 0 and 1, where a row may
            have several of n_labels labels, for nets with BCEWithLogitsLoss or BCELoss and
            one output for each label.
        X_unlabeled : array-like of shape (n_unlabeled, n_features), default=None
            Rows without labels, which the teacher labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Only for students that use weights: `forward` names ``sample_weight``, or
            the net has :class:`SampleWeightMixin`. The teacher must take them, too.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y, X_unlabeled, sample_weight)
