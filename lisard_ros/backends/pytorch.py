"""The PyTorch model as a backend: the network rebuilt by the trainer's package with the bundle's own weights.

torch is imported only when this backend is chosen; the network comes from the entry-point group `lisard_ros.twin`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Architecture
from lisard_ros.errors import BackendError, LisardError, one_line

NETWORK_BUILDER_GROUP = "lisard_ros.twin"
_INSTALL = "pip install 'lisard_ros[trainer]', or `make setup` in a checkout"


def load_network(bundle: Bundle) -> Any:
    """Rebuild the bundle's network as a torch.nn.Module in eval mode; it maps x [N, 3, H, W] to the output."""
    manifest = bundle.manifest
    if manifest.architecture is None or manifest.twin is None:
        raise BackendError(
            f"bundle {manifest.name} has no PyTorch model",
            found="neither architecture nor weights",
            expected="`architecture` and `twin`",
            cure="use backend onnxruntime, or export the model again",
        )
    try:
        from safetensors.torch import load
    except ImportError as error:
        raise BackendError(
            "the torch backend cannot be loaded", found=str(error), expected="torch and safetensors", cure=_INSTALL
        ) from error
    build = builder()
    try:
        module = build(manifest.architecture)
        module.load_state_dict(load(bundle.data(manifest.twin)))
    except LisardError:
        raise
    except Exception as error:  # safetensors and torch each raise their own kinds for weights that do not fit
        raise BackendError(
            "the PyTorch weights do not fit the architecture",
            found=one_line(error),
            expected=f"the weights of {manifest.architecture.name}",
            cure="export the model again",
        ) from error
    return module.eval()


def builder() -> Callable[[Architecture], Any]:
    """Find the function that builds a network by name, through its entry point."""
    try:
        for entry in entry_points(group=NETWORK_BUILDER_GROUP):
            build: Callable[[Architecture], Any] = entry.load()
            return build
        obstacle = "no such entry point"
    except (ImportError, AttributeError) as error:
        obstacle = str(error)
    raise BackendError(
        "no trainer package to rebuild the network",
        found=obstacle,
        expected=f"the entry-point group {NETWORK_BUILDER_GROUP}",
        cure=_INSTALL,
    )


class PyTorchModel:
    """Runs the PyTorch model on the CPU, for comparisons; not meant for vehicles."""

    name = "torch"
    warnings: tuple[str, ...] = ()

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Rebuild the network; BackendError says what to install when torch or the trainer is absent."""
        self._module = load_network(bundle)
        import torch

        torch.set_num_threads(threads)
        self.model_sha256 = bundle.manifest.files.get(bundle.manifest.twin or "", "")
        self.description = f"torch {torch.__version__} CPU fp32 threads={threads}"

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run float32 [N, 3, H, W]; returns float32 [N, ...]."""
        import torch

        try:
            with torch.inference_mode():
                output: NDArray[np.float32] = self._module(torch.from_numpy(np.ascontiguousarray(x))).float().numpy()
        except RuntimeError as error:
            raise BackendError("torch failed on a batch", found=one_line(error)) from error
        return output

    def close(self) -> None:
        """Free the network; a second call does nothing."""
        self.__dict__.pop("_module", None)
