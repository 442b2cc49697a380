"""Write the files of the present format that later versions must be able to load.

Run once for each format number, from the root: ``python -m tests.io.make_old_file``. What it
writes is committed and never written again.
"""

import numpy as np
from sklearn.pipeline import Pipeline

from skcompress import Quantizer, StructuredPruner
from skcompress._file.container import FORMAT
from skcompress.io import save
from tests.io.cases import digits, pruned
from tests.io.test_writing import OLD, old_model

FILES = {
    f"format-{FORMAT}": ("default", pruned(("codes", Quantizer(4)))),
    f"format-{FORMAT}-smallest": ("smallest", pruned(("codes", Quantizer(4)))),
    f"format-{FORMAT}-shrunk": (
        "default",
        Pipeline([("prune", StructuredPruner(0.5)), ("codes", Quantizer(4))]),
    ),
}


def main():
    X, y = digits()
    for name, (level, compressor) in FILES.items():
        path = OLD / f"{name}.skc"
        if path.exists():
            print(f"{path} is there: files of a format are written once")
            continue
        model = old_model(compressor).set_params(net__random_state=0)
        model.set_params(net__estimator__max_epochs=3).fit(X, y)
        save(model, path, level=level)
        np.save(path.with_suffix(".npy"), model.predict_proba(X[:20]))


if __name__ == "__main__":
    main()
