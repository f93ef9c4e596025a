"""The model agrees with a reference in float64: output, loss and gradients, at Stable Diffusion size.

The weights depend on their keys alone (``parity/reference.py``), so no 460 MB file is needed; what the reference made
of them is in ``parity/*.npz``.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import idm_lib as idm
from idm_lib.models.published import canonical, from_published_layout, to_published_layout
from idm_lib.operators import LinearOperator

PARITY = Path(__file__).parent / "parity"
sys.path.insert(0, str(PARITY))
from reference import reference_problem, reference_state_dict  # noqa: E402

sys.path.pop(0)


class GivenMatrix(LinearOperator):
    """The reference's operator: a given permutation and a given matrix, (N, q)."""

    def __init__(self, permutation, matrix, size):
        super().__init__()
        self.order = torch.from_numpy(permutation)
        self.inverse, self.matrix, self.size = torch.argsort(self.order), torch.from_numpy(matrix), size

    def A(self, x):
        return (x.flatten(1)[:, self.order].reshape(len(x), -1, 1024) @ self.matrix).flatten(1)

    def A_adjoint(self, y):
        blocks = y.reshape(len(y), -1, self.matrix.shape[1]) @ self.matrix.T
        return blocks.flatten(1)[:, self.inverse].reshape(len(y), 1, *self.size)

    A_dagger = A_adjoint


class Case:
    def __init__(self, steps):
        self.expected = np.load(PARITY / f"reference_outputs_T{steps}.npz")
        size = self.expected["output"].shape[-2:]
        problem = reference_problem(*size)
        self.op = GivenMatrix(problem["permutation"], problem["matrix"], size)
        self.x = torch.from_numpy(problem["x"]).double()
        self.y = self.op.A(self.x)
        self.published = reference_state_dict(steps)
        self.model = idm.InvertibleDiffusion.from_published(self.published, steps=steps)

    def check(self, policy):
        self.model.zero_grad()
        out = self.model(self.y, self.op, memory=idm.MemoryPolicy.named(policy))
        loss = (out - self.x).abs().mean()
        loss.backward()
        assert np.abs(out.detach().numpy() - self.expected["output"]).max() < 1e-9
        assert abs(loss.item() - float(self.expected["loss"])) < 1e-9
        found = to_published_layout({name: p.grad for name, p in self.model.named_parameters()})
        for key in self.expected.files:
            if key.startswith("grad:"):
                assert np.abs(found[key[5:]].numpy() - self.expected[key]).max() < 1e-9, key
        names = [str(name) for name in self.expected["grad_names"]]
        assert set(names) == {key for key in found if canonical(key) == key}
        norms = np.array([float(found[name].norm()) for name in names])
        assert np.abs(norms - self.expected["grad_norms"]).max() < 1e-9


@pytest.fixture(scope="module")
def one_step():
    return Case(1)


def test_measurements_are_the_references(one_step):
    given = one_step.expected["measurements"]
    assert np.abs(one_step.y.numpy().reshape(given.shape) - given).max() < 1e-12


@pytest.mark.parametrize("policy", ["store", "paper", "least", "lean", "default"])
def test_output_loss_and_gradients_agree(one_step, policy):
    one_step.check(policy)


def test_the_published_layout_comes_back_exactly(one_step):
    back = to_published_layout(one_step.model.state_dict())
    assert set(back) == set(one_step.published)
    assert len(back) == 757
    assert all(torch.equal(back[key], value) for key, value in one_step.published.items())
    assert all(back[key] is back[canonical(key)] for key in back)


def test_a_repeated_tensor_that_differs_and_foreign_files_are_refused(one_step, tmp_path):
    repeated = next(key for key in one_step.published if canonical(key) != key)
    broken = dict(one_step.published) | {repeated: one_step.published[repeated] + 1}
    with pytest.raises(idm.InputError, match="differs"):
        from_published_layout(broken)
    with pytest.raises(idm.InputError, match="1 step"):
        idm.InvertibleDiffusion.from_published(one_step.published, steps=3)
    missing = {key: value for key, value in one_step.published.items() if "conv_out" not in key}
    with pytest.raises(idm.InputError, match="conv_out"):
        idm.InvertibleDiffusion.from_published(missing, steps=1)
    (tmp_path / "text.pt").write_text("no weights here")
    with pytest.raises(idm.InputError, match="not a checkpoint"):
        idm.InvertibleDiffusion.from_published(tmp_path / "text.pt", steps=1)


@pytest.fixture(scope="module")
def three_steps():
    return Case(3)


@pytest.mark.slow
def test_three_steps_have_the_papers_size(three_steps):
    parameters = sum(p.numel() for p in three_steps.model.parameters())
    injectors = [(n, p) for n, p in three_steps.model.named_parameters() if "injectors" in n]
    assert round(parameters / 1e6, 2) == 115.27
    assert sum(p.numel() for _, p in injectors) == 18060
    assert len({n.split(".injectors.")[0] + n.split(".injectors.")[1].split(".")[0] for n, _ in injectors}) == 20
    assert len(three_steps.published) == 1079


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["store", "paper", "lean", "default", "fast"])
def test_three_steps_agree(three_steps, policy):
    three_steps.check(policy)
