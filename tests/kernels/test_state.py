"""The state of a layer as a thing to keep: in files, in copies, on other devices, in another process."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch

from hnn_kernels import IIR, LIFState
from hnn_kernels.nn import LIF


@pytest.fixture
def layer():
    return LIF(0.9, axon=IIR.dual_exponential(4, 1), learn=("decay", "axon"), shape=(6,), backend="reference")


@pytest.fixture
def halves(layer):
    """The second half of a current, the state before it, and the train of this half in one call over both."""
    current = torch.randn(10, 3, 6)
    return current[4:], layer(current[:4], return_state=True)[1], layer(current)[4:]


def through_file(state):
    file = io.BytesIO()
    torch.save({"state": state}, file)
    file.seek(0)
    return torch.load(file)["state"]


KEPT = {
    "torch.save": through_file,
    "detached": lambda state: through_file(state.detach()),
    "pickle": lambda state: pickle.loads(pickle.dumps(state.detach())),
    "deepcopy": lambda state: copy.deepcopy(state.detach()),
    "clone": LIFState.clone,
    "to": lambda state: state.to("cpu"),
}


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT)
def test_a_kept_state_continues_the_train(layer, halves, keep):
    current, state, expected = halves
    kept = keep(state)
    assert type(kept) is LIFState
    assert torch.equal(layer(current, state=kept), expected)


def test_a_file_names_the_public_class():
    state = LIFState(torch.zeros(2), torch.zeros(2))
    assert b"hnn_kernels\nLIFState" in pickle.dumps(state, protocol=0)


def test_another_process_loads_a_state(tmp_path):
    path = tmp_path / "state.pt"
    torch.save(LIFState(torch.arange(3.0), torch.ones(3)), path)
    code = f"import torch, hnn_kernels; print(torch.load({str(path)!r}).v.tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0.0, 1.0, 2.0]"


def test_detach_cuts_the_history_and_clone_does_not(layer, halves):
    _, state, _ = halves
    assert state.v.requires_grad
    assert state.clone().axon.requires_grad
    detached = state.detach()
    assert not any(part.requires_grad for part in detached if part is not None)
    assert detached.synapse is None
    state.clone().v.sum().backward()
    assert layer.decay.grad is not None


def test_to_changes_the_dtype_of_every_part(halves):
    _, state, _ = halves
    assert {part.dtype for part in state.to(torch.float64) if part is not None} == {torch.float64}
    assert state.to(torch.float64).to(state.v).v.dtype == torch.float32


def test_a_state_is_a_tree_of_tensors():
    state = LIFState(torch.zeros(2), torch.ones(2))
    doubled = torch.utils._pytree.tree_map(lambda part: None if part is None else 2 * part, state)
    assert type(doubled) is LIFState
    assert doubled.r.tolist() == [2, 2]
