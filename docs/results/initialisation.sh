#!/bin/sh
# The three initialisations of a plain 6-6 model on the demo's text, same updates and batches.
# usage: docs/results/initialisation.sh FOLDER_WITH_THE_TEXT, such as demo/text
set -eu
for scheme in residual fairseq transformers; do
    name=initialisation-$scheme
    [ -f "runs/$name/results.json" ] || paretokd train recipes/demo.yaml --method plain --data.data_dir "$1" --resume \
        --model.encoder_layers 6 --model.decoder_layers 6 --model.initialisation "$scheme" \
        --max_steps 700 --eval_steps 350 --output_dir "runs/$name"
    cp "runs/$name/results.json" "docs/results/$name.json"
done
