#!/usr/bin/env bash
# The CIFAR-10 studies at their short budget, the most telling runs first, for MINUTES.
#
#   studies/cifar10_on_gpu.sh MINUTES [options of boss-study run, such as --data DIR --results DIR]
#
# For a GPU that is lent for half an hour at a time: every call goes on where the last one stopped,
# in the middle of a training if need be, and repeats nothing that is finished. One run of
# everything comes first, then the repeats. With --dry-run it prints what it would run.
#
# Ends with 0 when all is finished or the time is up, 1 if runs failed (the others go on), 2 on wrong
# input, 130 or 143 when it is stopped.
set -uo pipefail
cd "$(dirname "$0")/.."

if ! [[ ${1:-} =~ ^[0-9]+$ ]]; then
    echo "usage: $0 MINUTES [options of boss-study run]" >&2
    exit 2
fi
end=$(($(date +%s) + 60 * 10#$1))
shift
options=("$@")
status=0

# A signal is handed on, so that the training writes its checkpoint before all ends.
child= stopped=
trap 'stopped=143; [[ -z $child ]] || kill -TERM "$child" 2>/dev/null' INT TERM

run() {
    local left=$((end - $(date +%s))) code
    [[ -z $stopped ]] || exit "$stopped"
    ((left > 0)) || return 0
    PYTHONPATH=".${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python3}" -m boss run "$@" --budget short --time-limit "${left}s" \
        ${options[@]+"${options[@]}"} &
    child=$!
    wait "$child"
    code=$?
    while kill -0 "$child" 2>/dev/null; do # a signal ends the waiting, not the child
        wait "$child"
        code=$?
    done
    ((code < 2)) || exit "$code"
    ((code == 0)) || status=1
}

# The prototype sets of BOSS: first those of its own experiments, then the others, without which there
# are too few that share no image (6 and 7 are made of 2 and 4) for any interval over label sets.
prototypes=() more=() buckets=() random=()
for set in 2 4 6 7; do prototypes+=(--only "label_set=boss:$set"); done
for set in 1 3 0 5; do more+=(--only "label_set=boss:$set"); done
for bucket in 7 0 4 6 5 3 2 1; do buckets+=(--only "label_set=carlini:$bucket"); done
for seed in 0 1 2 3; do random+=(--only "label_set=fixmatch:$seed@10"); done
methods=(--only round=0 --only method=fixmatch --only method=boss-4)
honest=(--only round=1 --only picks_per_class=40 --only pick_labels=pseudo --only rank_by=last)

for repeat in 0 1 2 3; do
    this=(--only "repeat=$repeat")
    # Table 1 of Empirical Perspectives: random and hand-picked label sets.
    run oneshot_cifar10 "${this[@]}"
    # BOSS: FixMatch and balancing on its prototypes, then self-training.
    run boss_cifar10 "${this[@]}" "${prototypes[@]}" "${methods[@]}"
    run boss_cifar10 "${this[@]}" "${prototypes[@]}" "${honest[@]}"
    # The fully supervised reference; one is enough to begin with.
    run boss_cifar10 "${this[@]}" --only method=supervised
    # Prototypicality, beside random images; the other sets; the other methods of balancing.
    run prototypes_cifar10 "${this[@]}" "${buckets[@]}" "${random[@]}" --only method=fixmatch
    run boss_cifar10 "${this[@]}" "${more[@]}" "${methods[@]}"
    run boss_cifar10 "${this[@]}" "${more[@]}" "${honest[@]}"
    run boss_cifar10 "${this[@]}" "${prototypes[@]}" "${more[@]}" --only round=0
done
# FixMatch's own setting with 40 labels, five folds.
for fold in 1 2 3 4 5; do
    run fixmatch_table2 --only dataset=cifar10 --only "label_set=fixmatch:$fold@40" \
        --only algorithm=fixmatch
done
exit "$status"
