"""Write the file of the present format that later versions must be able to load.

Run once for each format number, from the root: ``python -m tests.io.make_old_file``. What it
writes is committed and never written again.
"""

import numpy as np

from skcompress import Quantizer
from skcompress._file._container import FORMAT
from skcompress.io import save
from tests.io.cases import digits, pruned
from tests.io.test_writing import OLD, old_model


def main():
    X, y = digits()
    model = old_model(pruned(("codes", Quantizer(4)))).set_params(net__random_state=0)
    model.set_params(net__estimator__max_epochs=3).fit(X, y)
    for level, name in (("default", f"format-{FORMAT}"), ("smallest", f"format-{FORMAT}-smallest")):
        path = OLD / f"{name}.skc"
        if path.exists():
            raise SystemExit(f"{path} is there: files of a format are written once")
        save(model, path, level=level)
        np.save(path.with_suffix(".npy"), model.predict_proba(X[:20]))


if __name__ == "__main__":
    main()
