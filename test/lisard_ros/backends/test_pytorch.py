"""The PyTorch model as a backend: network from the trainer, weights from the bundle; all else is refused."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

from lisard_ros.backends import pytorch
from lisard_ros.bundle.manifest import Architecture
from lisard_ros.errors import BackendError

torch = pytest.importorskip("torch")
from safetensors.torch import save  # noqa: E402  only where torch is


class Colours(torch.nn.Module):  # type: ignore[name-defined, misc]
    """The tiny classifier in torch."""

    def __init__(self, classes: int) -> None:
        """classes: width of the matrix."""
        super().__init__()
        self.W = torch.nn.Parameter(torch.zeros(3, classes))

    def forward(self, x: Any) -> Any:
        """Mean colour times the matrix."""
        return x.mean(dim=(2, 3)) @ self.W


REAL_BUILDER = pytorch.builder


@pytest.fixture(autouse=True)
def builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the trainer's entry point."""
    monkeypatch.setattr(pytorch, "builder", lambda: lambda architecture: Colours(**architecture.arguments))


def bundle_with(tiny: Any, weights: bytes, **arguments: Any) -> Any:
    """The tiny classifier with a PyTorch model."""
    architecture = Architecture(name="colours", arguments=arguments or {"classes": 3})
    return tiny.classifier(files={"twin.safetensors": weights}, architecture=architecture, twin="twin.safetensors")


def test_the_pytorch_model_answers_like_onnx(tiny: Any) -> None:
    bundle = bundle_with(tiny, save({"W": torch.eye(3) * tiny.gain}))
    x = np.random.default_rng(0).random((5, 3, 16, 16), np.float32)
    backend = pytorch.PyTorchModel(bundle, 1)
    expected = tiny.pipeline(bundle).choice.backend.infer(x)
    assert np.allclose(backend.infer(x), expected, atol=1e-4) and "threads=1" in backend.description
    backend.close()
    backend.close()


@pytest.mark.parametrize(
    ("weights", "arguments"),
    [
        (b"no safetensors", {"classes": 3}),
        (b"", {"classes": 3}),
        (save({"V": torch.eye(3)}), {"classes": 3}),
        (save({"W": torch.eye(3), "V": torch.eye(3)}), {"classes": 3}),
        (save({"W": torch.zeros(3, 4)}), {"classes": 3}),
        (save({"W": torch.eye(3)}), {"colours": 3}),
    ],
)
def test_weights_that_do_not_fit_are_refused(tiny: Any, weights: bytes, arguments: dict[str, int]) -> None:
    """Regression: another shape, and bytes that are no safetensors, raised errors of torch and of safetensors."""
    with pytest.raises(BackendError, match="do not fit the architecture: found .*, expected the weights of colours"):
        pytorch.PyTorchModel(bundle_with(tiny, weights, **arguments), 1)


def test_an_error_of_the_trainer_is_passed_on(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(architecture: Architecture) -> Any:
        raise BackendError("unknown architecture", found=architecture.name)

    monkeypatch.setattr(pytorch, "builder", lambda: unknown)
    with pytest.raises(BackendError, match="unknown architecture: found colours"):
        pytorch.PyTorchModel(bundle_with(tiny, save({"W": torch.eye(3)})), 1)


def test_without_safetensors_it_says_what_to_install(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(BackendError, match="expected torch and safetensors; pip install"):
        pytorch.PyTorchModel(bundle_with(tiny, b""), 1)


@pytest.mark.parametrize("where", ["", "lisard_nowhere:build", "lisard_ros.errors:build"])
def test_without_the_trainer_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    installed = [EntryPoint("build", where, pytorch.NETWORK_BUILDER_GROUP)] if where else []
    monkeypatch.setattr(pytorch, "entry_points", lambda group: installed)
    with pytest.raises(BackendError, match="no trainer package.*entry-point group lisard_ros.twin; pip install"):
        REAL_BUILDER()


def test_a_batch_that_torch_refuses_is_an_error_of_ours(tiny: Any) -> None:
    backend = pytorch.PyTorchModel(bundle_with(tiny, save({"W": torch.eye(3)})), 1)
    with pytest.raises(BackendError, match="torch failed on a batch"):
        backend.infer(np.zeros((1, 5, 4, 4), np.float32))
