#!/usr/bin/env bash
# TIMIT: the paper's three rows and the best config, three seeds each, and a table of what came out.
#
#   recipes/timit/run.sh /path/to/TIMIT [FOLDER]
#
# An LDC copy, or NLTK's sample (which gets its own split). FOLDER: exp/timit, seen from the repository; the table is
# FOLDER/RESULTS.md. With the whole corpus this takes days on a CPU: it is meant to run unattended on a GPU.
# Run again, it does only what is not done yet. CONFIGS and SEEDS choose others, OPTIONS goes to `asr train`:
#   CONFIGS=timit SEEDS=1 OPTIONS="-o train.epochs=2" recipes/timit/run.sh /path/to/TIMIT
set -euo pipefail
corpus=$(realpath -- "${1:?the corpus: recipes/timit/run.sh /path/to/TIMIT [FOLDER]}")
cd "$(dirname "$0")/../.."
. tools/setup
. tools/stage
PATH=$PWD/.venv/bin:$PATH
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

exp=${2:-exp/timit}
DONE=$exp/.done
read -ra train <<< "$(trainer)"
read -ra options <<< "${OPTIONS:-}"

DEPENDS=$(echo recipes/timit/*.py recipes/timit/*.tsv)
stage prepare python recipes/timit/prepare.py "$corpus" "$exp/data"
prepared=$key
runs=()
for name in ${CONFIGS:-timit-paper-baseline timit-paper-conv timit-paper-smooth timit}; do
    key=$prepared       # configs do not depend on each other
    DEPENDS=conf/$name.yaml
    for split in train dev test; do
        stage "$name-prep-$split" asr prep "$exp/data/$split.jsonl" "$exp/$name/$split" \
            --config "conf/$name.yaml" -j "$(cores)"
    done
    stored=$key
    for seed in ${SEEDS:-1 2 3}; do
        key=$stored     # nor do seeds
        run=$exp/$name/seed$seed
        OUTPUT=$run stage "$name-train-$seed" "${train[@]}" --config "conf/$name.yaml" -o "train.seed=$seed" \
            "${options[@]}" --train "$exp/$name/train" --dev "$exp/$name/dev" --run "$run" --resume
        stage "$name-decode-$seed" asr decode "$run/model.asr" "$exp/$name/test" --out "$run/test.hyp.jsonl"
        runs+=("$run")
    done
done
python tools/results.py "$exp/data/test.jsonl" "${runs[@]}" --protocol timit39 --protocol timit39-merge-sil \
    --title "TIMIT" --command "recipes/timit/run.sh TIMIT" --out "$exp/RESULTS.md"
cat "$exp/RESULTS.md"
