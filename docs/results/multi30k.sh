#!/bin/sh
# The systems of the Multi30k table, same updates and batches; each goes on where it was cut off. Then the paired tests
# and the report.
# usage: docs/results/multi30k.sh FOLDER_WITH_THE_TEXT
set -eu
train() { name=$1; shift; [ -f "runs/$name/results.json" ] || paretokd train recipes/multi30k-de-en.yaml \
    --data.data_dir "$TEXT" --output_dir "runs/$name" --resume "$@"; }
TEXT=$1
# the form first shipped: two stages, uniform draws, the gradient cut at 1.0 of the sum of three losses, a third of their mean
FIRST="--kd_weight 5.5 --mutual_start 0.5 --always [] --max_grad_norm 0.3333333"
train multi30k-plain-6-6 --method plain
train multi30k-aio $FIRST
train multi30k-plain-6-2 --method plain --model.decoder_layers 2
train multi30k-plain-2-2 --method plain --model.encoder_layers 2 --model.decoder_layers 2
paretokd evaluate runs/multi30k-aio --evaluation.baselines \
    runs/multi30k-plain-6-6 runs/multi30k-plain-6-2 runs/multi30k-plain-2-2
for name in multi30k-plain-6-6 multi30k-aio multi30k-plain-6-2 multi30k-plain-2-2; do docs/results/take.sh "runs/$name"; done
cp runs/multi30k-aio/comparisons.json docs/results/multi30k-aio-comparisons.json
cp runs/multi30k-aio/latency.json docs/results/multi30k-aio-latency.json
for picture in latency size; do cp runs/multi30k-aio/plots/$picture.png docs/results/multi30k-$picture.png; done
for quantization in float32 int8; do
    COLUMNS=100 paretokd export runs/multi30k-aio/students/6-2 --to ctranslate2 --quantization $quantization \
        --output "runs/multi30k-aio/exports/6-2-$quantization" --overwrite
done | tee docs/results/export.txt
