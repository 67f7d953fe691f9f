"""One row of the paper's tables: train a network, attack its predictions and its maps, write result and picture.

    python examples/reproduce.py --dataset fashion_mnist --method ig_sum_norm
    python examples/reproduce.py --table    # all results beside the paper's numbers

Started again, it goes on where it was stopped.
"""

import argparse
from pathlib import Path

from keras_rar.paper.experiment import Experiment
from keras_rar.paper.plans import DATASETS
from keras_rar.paper.published import METHODS
from keras_rar.paper.results_table import table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=DATASETS, default="fashion_mnist")
    parser.add_argument("--method", choices=METHODS, default="ig_sum_norm")
    parser.add_argument("--recipe", choices=["fast", "paper"], default="fast")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attacked", type=int, default=150, help="test images whose map is attacked")
    parser.add_argument("--restarted", type=int, default=30, help="of these attacked again, from three random starts")
    parser.add_argument("--dtype", default="fastest", help="policy that the fast recipe trains in")
    parser.add_argument("--data-dir", type=Path, help="folder of the official files; found or downloaded by default")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--smoke", action="store_true", help="a run on noise that only shows that it works")
    parser.add_argument("--table", action="store_true", help="print all results in --out, run nothing")
    options = vars(parser.parse_args())
    if not options.pop("table"):
        Experiment(**options).run()
    print(table(options["out"]))


if __name__ == "__main__":
    main()
