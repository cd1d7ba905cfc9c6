#!/bin/sh
# ResNet-18 on CIFAR-10 on one GPU: the published training of 200 epochs, its repair, the controls and the surrogates, then
# the full evaluation. Resumable: every training goes on from its last checkpoint, the evaluation from what it has measured.
#   bench/gpu/resnet18_cifar10.sh DATA [OUT]     DATA: a CIFAR-10 folder of any kind that `lisard train` reads
# The trainings run side by side, as one alone waits for Python (docs/results/gpu.md).
set -eu
data=${1:?usage: bench/gpu/resnet18_cifar10.sh DATA [OUT]}
out=${2:-runs/gpu_cifar10}
cd "$(dirname "$0")/../.."
export PYTHONPATH=.:trainer:engines
lisard() { "${PYTHON:-python3}" -m lisard_ros "$@"; }

running=""
begin() {
    name=$1
    shift
    mkdir -p "$out/$name"
    lisard train "$@" --data "$data" --device cuda --out "$out/$name" > "$out/$name/log.txt" 2>&1 &
    running="$running $!:$name"
}
for recipe in resnet18_plain resnet18_surrogate resnet18_surrogate_lisard resnet18_noise; do
    begin "$recipe" "bench/gpu/$recipe.yaml" --no-export
done
begin faithful trainer/recipes/faithful_cifar10.yaml --no-export
begin linear trainer/recipes/lisard_ros_cifar10.yaml --no-export
begin lisard trainer/recipes/lisard_cifar10.yaml --bundle "$out/bundle"
failed=""
for training in $running; do
    wait "${training%%:*}" || failed="$failed ${training#*:}"
done
[ -z "$failed" ] || { echo "failed:$failed; see log.txt in each folder of $out" >&2; exit 1; }
lisard evaluate "$out/bundle" --device cuda --torch-only --suite full --data "$data" \
    --surrogate "ordinary=$out/resnet18_surrogate" --surrogate "alike=$out/resnet18_surrogate_lisard" \
    --control "plain=$out/resnet18_plain" --control "noise_only=$out/resnet18_noise" --control "faithful=$out/faithful" \
    --control "linear=$out/linear" \
    --json docs/results/gpu_cifar10.json --table docs/results/gpu_cifar10.md --html "$out/report.html"
