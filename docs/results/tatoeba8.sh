#!/bin/sh
# The systems of the Tatoeba table, same updates per model and same batches at equal temperature; each goes on where it was cut
# off. Then the peers are tested against the plain models.
# usage: docs/results/tatoeba8.sh FOLDER_WITH_THE_TEXT
set -eu
train() { name=$1; shift; [ -f "runs/$name/results.json" ] || paretokd train recipes/tatoeba8-m2o.yaml \
    --data.data_dir "$TEXT" --output_dir "runs/$name" --resume "$@"; }
TEXT=$1
train tatoeba8-plain-1 --method plain
train tatoeba8-plain-5 --method plain --temperatures 5
train tatoeba8-vanilla --strategy vanilla --temperatures 1 1 --distill_at_once true
train tatoeba8-bi --strategy bi --distill_at_once true
train tatoeba8-uni --strategy uni
train tatoeba8-auto
for name in vanilla bi uni auto; do
    paretokd evaluate "runs/tatoeba8-$name" --evaluation.baselines runs/tatoeba8-plain-1 runs/tatoeba8-plain-5
done
for name in plain-1 plain-5 vanilla bi uni auto; do docs/results/take.sh "runs/tatoeba8-$name"; done
cp runs/tatoeba8-auto/distillation_weights.json docs/results/tatoeba8-auto-weights.json
