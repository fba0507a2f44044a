#!/bin/sh
# What common dropout masks do to quality: shared prefixes against independent passes, same updates and batches, three seeds.
# usage: docs/results/sharing.sh FOLDER_WITH_THE_TEXT [shared-1 separate-2 …]
set -eu
TEXT=$1; shift
[ $# -gt 0 ] || set -- shared-1 shared-2 shared-3 separate-1 separate-2 separate-3
for each in "$@"; do
    case $each in shared-*) views=shared ;; *) views=independent ;; esac
    name=sharing-$each
    [ -f "runs/$name/results.json" ] || paretokd train recipes/multi30k-de-en.yaml --data.data_dir "$TEXT" --resume \
        --kd_weight 5.5 --mutual_start 0.5 --always [] --max_grad_norm 0.3333333 \
        --output_dir "runs/$name" --views $views --seed "${each##*-}" --max_steps 1600 --eval_steps 400 \
        --evaluation.depths 6-6 6-2 2-2
    cp "runs/$name/results.json" "docs/results/$name.json"
done
