#!/bin/sh
# Takes over what README, docs and model_cards/ quote of a finished run: its figures and its cards.
# usage: docs/results/take.sh RUN [NAME]
set -eu
run=$1; name=${2:-$(basename "$run")}
cp "$run/results.json" "docs/results/$name.json"
mkdir -p "model_cards/$name"
for folder in "$run"/students/* "$run"/peers/* "$run"/model; do
    [ ! -f "$folder/README.md" ] || cp "$folder/README.md" "model_cards/$name/$(basename "$folder").md"
done
