"""The list of what a layer is made of (``_layer.py``), and who holds to it."""

import sys
from types import SimpleNamespace

import pytest
import torch

from hnn_kernels import SURROGATES, LIFState, _extensions, _layer
from hnn_kernels._generate import layer as generate
from hnn_kernels._layer import (
    COEFFICIENTS,
    FILTERS,
    INCOMING,
    MEMBRANE_STATES,
    NO_MEMBRANE,
    OPTIONS,
    READOUTS,
    RESET_GRADS,
    RESETS,
    SETTINGS,
    STATES,
    TENSORS,
    Layer,
)
from hnn_kernels._ops.layer import backward_ops, forward_ops
from hnn_kernels.reference import layer as reference


def test_the_schemas_are_of_the_list():
    for ops, before, after in ((forward_ops, (), ()), (backward_ops, INCOMING, ("needs",))):
        for op in ops.values():
            assert [a.name for a in op._schema.arguments] == [*before, *Layer._fields, *after]
    assert Layer._fields == (*TENSORS, *(setting.name for setting in SETTINGS))


def test_a_state_has_the_fields_of_the_list():
    assert LIFState._fields == (*MEMBRANE_STATES, *FILTERS)
    assert (*MEMBRANE_STATES, *(f"{name}_state" for name in FILTERS)) == STATES


def test_the_triton_kernels_take_what_is_listed():
    pytest.importorskip("triton")
    from hnn_kernels._triton import formula, layout

    assert {option.name for option in OPTIONS} <= set(formula.Options.__dataclass_fields__)
    assert set(TENSORS) <= set(layout.Strides._fields)
    for name in ("FILTER", "SUBTRACT", "ZERO"):
        assert getattr(formula, name).value == RESETS[name.lower()]
    assert formula.NO_MEMBRANE.value == NO_MEMBRANE
    assert formula.STATES.value == len(MEMBRANE_STATES)


@pytest.mark.parametrize("options", [{}, {"readout": READOUTS["count"]}, {"return_state": False}], ids=str)
@pytest.mark.parametrize("filters", [(), ("synapse",), ("axon",), FILTERS], ids=str)
@pytest.mark.parametrize("reset", [*RESETS.values(), NO_MEMBRANE])
def test_a_call_says_which_outputs_it_has(options, filters, reset):
    given = {f"{name}_feedforward_values": [0.5] for name in filters}
    given |= {f"{name}_value": 0.5 for name in COEFFICIENTS}
    layer = Layer(torch.zeros(2, 1, 3), **given, reset=reset, **options)
    results = dict(zip(layer.outputs(), reference(layer), strict=True))
    assert set(results) <= {"out", *STATES}
    assert [name for name in STATES if name in results] == list(results)[1:]
    assert ("v" in results) == ("r" in results) == (layer.return_state and reset != NO_MEMBRANE)
    for name in FILTERS:
        assert (f"{name}_state" in results) == (layer.return_state and name in filters)


def test_the_number_of_no_membrane_is_no_resets():
    """Also of one that is yet to come, whose number is the next."""
    assert NO_MEMBRANE not in range(len(RESETS) + 10)


# -- modules of another list -------------------------------------------------------------------------------------------


def changed(**names) -> SimpleNamespace:
    """The list with these names of another value."""
    return SimpleNamespace(**vars(_layer) | names)


def test_the_digest_changes_with_what_the_kernels_have_to_know():
    known = _layer.digest(SURROGATES)
    assert known == _layer.digest(list(SURROGATES))
    assert known != _layer.digest([*SURROGATES, "another"])
    assert known != _layer.digest(reversed(SURROGATES))


@pytest.mark.parametrize(
    "change",
    [{"FORWARD_SCHEMA": "()"}, {"BACKWARD_SCHEMA": "()"}, {"RESETS": {**RESETS, "a_new_one": len(RESETS)}},
     {"RESET_GRADS": dict(reversed(RESET_GRADS.items()))}, {"READOUTS": {"spikes": 0}}, {"NO_MEMBRANE": 7},
     {"OPERANDS": ()}],
    ids=str,
)  # fmt: skip
def test_each_part_of_the_list_is_in_the_digest(monkeypatch, change):
    known = _layer.digest(SURROGATES)
    for name, value in change.items():
        monkeypatch.setattr(_layer, name, value)
    assert _layer.digest(SURROGATES) != known


@pytest.mark.parametrize("info", [{}, {"layer": "0123456789abcdef"}, {"surrogates": " ".join(SURROGATES)}], ids=str)
def test_a_module_of_another_list_is_not_used(monkeypatch, info):
    """A kernel knows tensors and options by their place in the list alone, and would take another one."""
    module = type(sys)("hnn_kernels._trial")
    module.build_info = lambda: info
    monkeypatch.setitem(sys.modules, "hnn_kernels._trial", module)
    loaded, why = _extensions._load("_trial")
    assert loaded is None
    for said in ("_trial", str(info.get("layer")), _extensions.DIGEST, "`make generate`"):
        assert said in why
    module.build_info = lambda: {"layer": _layer.digest(SURROGATES)}
    assert _extensions._load("_trial") == (module, "")


@pytest.mark.parametrize(("version", "name"), [("12.6", "_cuda12"), ("13.0", "_cuda13"), ("14", "_cuda14")])
def test_each_major_version_of_cuda_has_a_module_of_its_own(version, name):
    assert _extensions.cuda_module(version) == name


def test_the_modules_for_other_versions_of_cuda_are_named(monkeypatch, tmp_path):
    (tmp_path / "_cuda12.abi3.so").touch()
    monkeypatch.setattr(_extensions, "PACKAGE", tmp_path)
    loaded, why = _extensions._load("_cuda99")
    assert loaded is None
    assert why == "this installation was built without them; it has _cuda12"


def test_a_new_reset_is_not_taken_for_a_layer_without_a_membrane():
    """Its number is next in Python and in the header, and that of no membrane stays."""
    longer = changed(RESETS={**RESETS, "a_new_one": len(RESETS)})
    text = generate.cpp(longer, SURROGATES)
    constants = text.split("enum Reset {")[1].split("}")[0].split(", ")
    assert constants[0].strip() == f"kNoMembrane = {NO_MEMBRANE}"
    assert constants[1:] == [*(f"k{name.title()}" for name in RESETS), "kANewOne", "kResets "]
