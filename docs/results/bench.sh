#!/bin/sh
# The tables of docs/speed.md, docs/scale.md and docs/sharing.md; an hour on two cores, with no other job running.
set -eu
bench() { name=$1; shift; COLUMNS=100 paretokd bench "$@" > "docs/results/$name.txt"; }
bench bench-iwslt --shape iwslt
bench bench-base --shape base
bench bench-methods methods
bench bench-pareto pareto
bench bench-options-iwslt options --shape iwslt
bench bench-options-small options --shape small --max_tokens 1024
bench bench-data data --rows 200000 800000 3000000
COLUMNS=120 paretokd bench serving --sentences 40 > docs/results/bench-serving.txt
