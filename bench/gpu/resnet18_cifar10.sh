#!/bin/sh
# ResNet-18 on CIFAR-10 on one GPU: the published training of 200 epochs, our second stage after it, the same stage with noise
# alone, ordinary training, and two attackers, of whom one knows the linear term; then all of them measured. Resumable:
# trainings go on from their last checkpoint, the evaluation from what it has measured.
#   bench/gpu/resnet18_cifar10.sh DATA [OUT]     DATA: a CIFAR-10 folder of any kind that `lisard train` reads
# The trainings run side by side, as one with small batches waits for Python (docs/results/gpu.md).
set -eu
data=${1:?usage: bench/gpu/resnet18_cifar10.sh DATA [OUT]}
out=${2:-runs/gpu_cifar10}
cd "$(dirname "$0")/../.."

lisard() { "${PYTHON:-python3}" -m lisard_ros "$@"; }

train() {
    name=$1
    shift
    mkdir -p "$out/$name"
    lisard train "$@" --data "$data" --device cuda --threads 1 --out "$out/$name" > "$out/$name/log.txt" 2>&1
}
waited() {
    failed=""
    for job in "$@"; do
        wait "${job%%:*}" || failed="$failed ${job#*:}"
    done
    [ -z "$failed" ] || { echo "failed:$failed; see log.txt in each folder of $out" >&2; exit 1; }
}
evaluate() {
    lisard evaluate "$out/bundle" --device cuda --torch-only --suite grid --data "$data" \
        --surrogate "ordinary=$out/ordinary" --surrogate "alike=$out/alike" --baseline "plain=$out/plain" \
        --baseline "faithful=$out/faithful" --baseline "noise_stage=$out/noise_stage" "$@"
}

train faithful trainer/recipes/faithful_cifar10.yaml --no-export &
first=$!:faithful
others=""
for name in plain ordinary alike; do
    train $name bench/gpu/resnet18_$name.yaml --no-export &
    others="$others $!:$name"
done
waited $first
train noise_stage bench/gpu/resnet18_noise_stage.yaml --set "init.weights=$out/faithful" --no-export &
others="$others $!:noise_stage"
train ours trainer/recipes/lisard_ros_cifar10.yaml --set "init.weights=$out/faithful" --bundle "$out/bundle" &
waited $others $!:ours

running=""
for part in '*@ordinary' '*@alike' white_pgd10 white_apgd_ce white_apgd_t; do
    evaluate --only "$part" > /dev/null 2>&1 &
    running="$running $!"
done
for job in $running; do
    wait "$job" || true # what fails here fails again below, and is told
done
evaluate --compare noise_stage:faithful --compare lisard:noise_stage --title "ResNet-18 on CIFAR-10, at the published length" \
    --json docs/results/gpu_cifar10.json --table docs/results/gpu_cifar10.md --html "$out/report.html"
