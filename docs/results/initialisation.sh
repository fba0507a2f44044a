#!/bin/sh
# The three initialisations of a plain 6-6 model on Multi30k, same updates and batches.
# usage: docs/results/initialisation.sh FOLDER_WITH_THE_TEXT
set -eu
for scheme in residual fairseq transformers; do
    name=initialisation-$scheme
    [ -f "runs/$name/results.json" ] || paretokd train recipes/multi30k-de-en.yaml --method plain --data.data_dir "$1" \
        --model.initialisation "$scheme" --output_dir "runs/$name" --max_steps 1000 --eval_steps 250 --resume
    cp "runs/$name/results.json" "docs/results/$name.json"
done
