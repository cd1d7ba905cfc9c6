"""Weights from elsewhere: every format, every mismatch listed, nothing unpickled but tensors."""

from __future__ import annotations

import collections
import contextlib
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from lisard_ros.errors import DataError, UsageError
from lisard_trainer.recipes import Init
from lisard_trainer.training import checkpoint, initialization, loop


def network(classes: int = 3) -> nn.Module:
    made = nn.Sequential()
    made.add_module("body", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    made.add_module("head", nn.Linear(4, classes))
    return made


def loaded(path, into: nn.Module, **init) -> nn.Module:
    initialization.load(into, initialization.read(path), Init(str(path), **init))
    return into


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def wrap(tensors: dict, how: str) -> dict:
    """Forms in which training programs save weights."""
    prefix, _, name = how.partition("/")
    renamed = collections.OrderedDict((prefix + key, value) for key, value in tensors.items())
    return {"epoch": 3, name: renamed} if name else renamed


@pytest.mark.parametrize("how", ["", "module.", "backbone./model_state_dict", "_orig_mod./state_dict", "/model"])
def test_usual_forms_of_torch_files(tmp_path, how):
    given_network = network()
    torch.save(wrap(given_network.state_dict(), how), tmp_path / "w.pt")
    assert same(given_network, loaded(tmp_path / "w.pt", network()))


def test_plain_safetensors(tmp_path):
    given_network = network()
    save_file(given_network.state_dict(), tmp_path / "w.safetensors")
    assert same(given_network, loaded(tmp_path / "w.safetensors", network()))


def test_old_files_without_counters(tmp_path):
    tensors = {key: value for key, value in network().state_dict().items() if "num_batches" not in key}
    torch.save(tensors, tmp_path / "w.pt")
    loaded(tmp_path / "w.pt", network())


def test_missing_unexpected_and_misshapen_are_listed(tmp_path):
    tensors = network(classes=5).state_dict()
    tensors["tail.weight"] = tensors.pop("body.0.bias")
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(DataError) as caught:
        loaded(tmp_path / "w.safetensors", network())
    for part in ("1 missing body.0.bias", "1 unexpected tail.weight", "wrong shape: head.weight [5, 4] for [3, 4]"):
        assert part in str(caught.value)


def test_another_network_lists_a_few_names_and_counts_the_rest(tmp_path):
    save_file({f"layer{i}.weight": torch.ones(1) for i in range(20)}, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"8 missing body.0.weight.* and 2 more; 20 unexpected .* and 14 more"):
        loaded(tmp_path / "w.safetensors", network())


def test_head_of_other_classes_can_be_left_out(tmp_path):
    torch.save(network(classes=5).state_dict(), tmp_path / "w.pt")
    own = network()
    head = own.head.weight.detach().clone()
    loaded(tmp_path / "w.pt", own, exclude="head")
    assert torch.equal(own.head.weight, head)


def test_a_beginning_that_no_name_has_is_refused(tmp_path):
    torch.save(network().state_dict(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match="init.exclude: beginning of a weight's name: found 'haed'.*'head'"):
        loaded(tmp_path / "w.pt", network(), exclude="haed")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda w: w.to(torch.complex64), "complex64"),
        (lambda w: w.to(torch.int8), "int8"),
        (lambda w: w.to_sparse(), "sparse float32"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "quantised qint8"),
        (lambda w: w.to("meta"), "without values float32"),
    ],
    ids=["complex", "int8", "sparse", "quantised", "meta"],
)
def test_what_is_no_plain_number_is_listed(tmp_path, change, kind):
    tensors = network().state_dict()
    tensors["head.weight"] = change(tensors["head.weight"])
    found = initialization.Weights(tensors, tmp_path / "w.pt", "")
    with pytest.raises(DataError, match=rf"1 wrong kind: head.weight \({kind}\)"):
        initialization.load(network(), found, Init("w.pt"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_listed(tmp_path, value):
    tensors = network().state_dict()
    tensors["body.0.weight"][1, 2, 0, 0] = value
    torch.save(tensors, tmp_path / "w.pt")
    with pytest.raises(DataError, match="found 1 not finite: body.0.weight, expected the"):
        loaded(tmp_path / "w.pt", network())


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize("content", [{"state_dict": Evil()}, Evil(), [Evil()]])
def test_code_in_a_pickle_is_refused_unrun(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="objects other than tensors"):
        initialization.read(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [{"epoch": 3}, {}, [1, 2], torch.ones(2)])
def test_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(DataError, match="no tensors by name"):
        initialization.read(tmp_path / "w.pt")


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 3000))
def test_any_damage_is_an_error_for_users(tmp_path_factory, noise, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    torch.save({"a": torch.ones(3)}, path)
    path.write_bytes(path.read_bytes()[:cut] + noise)
    with contextlib.suppress(DataError):
        initialization.read(path)
    path.write_bytes(noise)
    with pytest.raises(DataError):
        initialization.read(path)


def test_absent_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        initialization.read(tmp_path / "none.pt")


def test_training_starts_from_another_run(split, tmp_path, make_recipe):
    first = loop.fit(make_recipe(), split, tmp_path / "first", stop_after=1, show=False)
    recipe = make_recipe(name="second", init={"weights": str(tmp_path / "first")})
    run = loop.start(recipe, split, tmp_path / "second")
    assert same(first.network, run.network) and run.epoch == 0 and len(run.started_from) == 64
    loop.fit(recipe, split, tmp_path / "second", stop_after=1, show=False)
    assert checkpoint.read(tmp_path / "second").started_from == run.started_from
    other = make_recipe(network="resnet14w", init={"weights": str(tmp_path / "first")})
    with pytest.raises(DataError, match="wrong shape: stem.0.weight"):
        loop.start(other, split, tmp_path / "third")


def test_a_second_stage_passes_over_the_projector_of_the_first(split, tmp_path, make_recipe):
    optimizer = {"epochs": 1, "batch_size": 15}
    first = make_recipe(optimizer=optimizer, similarity={"form": "official", "projector": "dead", "projector_width": 8})
    trained = loop.fit(first, split, tmp_path / "first", show=False).network
    second = make_recipe(optimizer=optimizer, similarity={"form": "none"}, init={"weights": str(tmp_path / "first")})
    begun = loop.start(second, split, tmp_path / "second").network
    assert torch.equal(begun.head.weight, trained.head.weight) and not hasattr(begun, "projector")
