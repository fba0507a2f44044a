#!/bin/sh
# The systems of the Tatoeba table, same updates per model and same batches at equal temperature; each goes on where it was cut off.
# usage: docs/results/tatoeba8.sh FOLDER_WITH_THE_TEXT
set -eu
train() { name=$1; shift; [ -f "runs/$name/results.json" ] || paretokd train recipes/tatoeba8-m2o.yaml \
    --data.data_dir "$TEXT" --output_dir "runs/$name" --resume "$@"; cp "runs/$name/results.json" "docs/results/$name.json"; }
TEXT=$1
train tatoeba8-plain-1 --method plain
train tatoeba8-plain-5 --method plain --temperatures 5
train tatoeba8-vanilla --strategy vanilla --temperatures 1 1
train tatoeba8-bi --strategy bi
train tatoeba8-uni --strategy uni
train tatoeba8-auto
cp runs/tatoeba8-auto/distillation_weights.json docs/results/tatoeba8-auto-weights.json
