#!/bin/sh
# The systems of the Multi30k table, same updates and batches; each goes on where it was cut off.
# usage: docs/results/multi30k.sh FOLDER_WITH_THE_TEXT
set -eu
train() { name=$1; shift; [ -f "runs/$name/results.json" ] || paretokd train recipes/multi30k-de-en.yaml \
    --data.data_dir "$TEXT" --output_dir "runs/$name" --resume "$@"; cp "runs/$name/results.json" "docs/results/$name.json"; }
TEXT=$1
train multi30k-plain-6-6 --method plain
train multi30k-aio
train multi30k-plain-6-2 --method plain --model.decoder_layers 2
train multi30k-plain-2-2 --method plain --model.encoder_layers 2 --model.decoder_layers 2
