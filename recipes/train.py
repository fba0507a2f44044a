"""Train a recipe in several processes: `torchrun --nproc_per_node 2 recipes/train.py recipe.yaml --max_steps 100`.

The same as `paretokd train recipe.yaml`. `hf_paretokd.cli.training.train_recipe` is the way from text to scored students.
"""

import sys

from hf_paretokd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
