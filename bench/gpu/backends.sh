#!/bin/sh
# Times of the shipped models and of a ResNet-18 (CIFAR size, untrained: only its speed is looked at) on a GPU, through
# ONNX Runtime with the CUDA provider and, where it is installed, TensorRT; batches 1, 8 and 32, the pipeline included.
#   bench/gpu/backends.sh OUT        (OUT: folder for the JSON files, such as docs/results/gpu)
# Needs onnxruntime-gpu instead of onnxruntime, in an environment of its own, with CUDA and cuDNN of its release.
# Not run so far: there was no GPU. Its CPU part (BACKENDS=onnxruntime:fp32) was.
set -eu
out=${1:?usage: bench/gpu/backends.sh OUT}
cd "$(dirname "$0")/../.."
export OMP_WAIT_POLICY=PASSIVE
python=${PYTHON:-python3}
backends=${BACKENDS:-onnxruntime:fp32,onnxruntime_cuda:fp32,onnxruntime_cuda:fp16}
rounds=${ROUNDS:-300}
lisard() { "$python" -m lisard_ros "$@"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
"$python" - "$work/resnet18.onnx" <<'PYTHON'
import pathlib, sys
from lisard_ros.bundle.manifest import Architecture
from lisard_trainer import backbones
from lisard_trainer.tasks.exporting import to_onnx
network = backbones.build(Architecture(name="resnet18", arguments={"classes": 10, "size_px": 32, "activation": "relu"}))
pathlib.Path(sys.argv[1]).write_bytes(to_onnx(network.eval(), 32, "logits"))
PYTHON
lisard bundle "$work/resnet18.onnx" --task classification --labels 0,1,2,3,4,5,6,7,8,9 --input 32x32 \
    --output logits --out "$work/resnet18"

for bundle in models/* "$work/resnet18"; do
    name=$(basename "$bundle")
    # fp16 is made for its speed here; whether it may be deployed is what `lisard build` decides for real images.
    lisard build "$bundle" --out "$work/built/$name" --variants fp16 --images data/gtsrb_tracks --force > /dev/null
    chosen=$backends
    if lisard doctor | grep -q '^ok   tensorrt: device'; then
        lisard build "$work/built/$name" --variants none --engines tensorrt --batches 1,8,32
        chosen="$backends,tensorrt:fp32,tensorrt:fp16"
    fi
    lisard bench "$work/built/$name" --backends "$chosen" --batches 1,8,32 --rounds "$rounds" \
        --json "$out/$name.json"
done
