"""PCA of feature channels against an SVD, and what it refuses."""

import numpy as np
import pytest
import torch
from made_weights import noise, relative

from fasttrack import ops
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError
from fasttrack.vision.features import PCA


def test_pca_against_an_svd():
    maps = torch.einsum(
        "dc,tchw->tdhw", noise(12, 12, seed=1) - 127, noise(2, 12, 9, 7) * torch.arange(1, 13).view(-1, 1, 1)
    )
    pca = PCA(5).fit(maps)
    x = maps.double().transpose(0, 1).flatten(1).numpy()
    centred = x - x.mean(1, keepdims=True)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(u[np.abs(u).argmax(0), np.arange(12)])
    wanted = ((u * signs).T[:5] @ centred).reshape(5, 2, 9, 7).transpose(1, 0, 2, 3)
    got = pca.apply(maps)
    assert relative(got, wanted) < 1e-5
    for wrong in (-wanted, wanted[:, ::-1], np.zeros_like(wanted), wanted * 1.001, wanted + 0.01 * wanted.std()):
        assert relative(wrong, wanted) > 1e-4
    assert np.allclose(pca.model.variances, s[:5] ** 2 / (x.shape[1] - 1))
    assert got.is_contiguous()
    again = PCA(5).fit(maps.clone())
    assert torch.equal(again.model.basis, pca.model.basis)
    # Not bit for bit: on some CPUs the product of matrices adds in another order for another layout.
    assert relative(pca.apply(maps.contiguous(memory_format=torch.channels_last)), got) < 1e-6


def test_pca_keeps_all_of_too_few_channels(caplog):
    maps = noise(1, 3, 5, 5)
    with caplog.at_level("INFO"):
        pca = PCA(64).fit(maps)
    assert pca.kept == 3
    assert "64 channels wanted, 3 are there: all kept" in caplog.text
    centred = maps - maps.mean((2, 3), keepdim=True)
    assert relative(pca.apply(maps).square().sum(), centred.square().sum()) < 1e-5  # a rotation


def test_pca_refuses_what_it_cannot_fit():
    with pytest.raises(RangeError, match=r"finite .*got NaN"):
        PCA(2).fit(torch.full((1, 3, 4, 4), float("nan")))
    for constant in (torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 1e3)):
        with pytest.raises(RangeError, match="vary from cell to cell"):
            PCA(2).fit(constant)
    with pytest.raises(ShapeError, match="at least two cells"):
        PCA(2).fit(noise(1, 3, 1, 1))
    with pytest.raises(RangeError, match="k must be at least 1"):
        PCA(0)
    with pytest.raises(RangeError, match="not fitted"):
        PCA(2).apply(noise(1, 3, 4, 4))
    with pytest.raises(ShapeError, match=r"\(T, 3, H, W\)"):
        PCA(2).fit(noise(1, 3, 4, 4)).apply(noise(1, 4, 4, 4))


BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])


@BOTH
def test_fit_by_hand(backend):
    # Points on the line (3, 4)/5 through (10, 20): steps −1, 0, 1, 2 of length 5, variance 25·5/3.
    samples = torch.tensor([[7.0, 16.0], [10.0, 20.0], [13.0, 24.0], [16.0, 28.0]])
    model = ops.pca_fit(samples, 1, backend=backend)
    assert model.mean.tolist() == pytest.approx([11.5, 22.0])
    assert model.basis.flatten().tolist() == pytest.approx([0.6, 0.8], rel=1e-6)
    assert model.variances.tolist() == pytest.approx([25 * 5 / 3], rel=1e-6)
    got = ops.pca_apply(samples, model, backend=backend)
    assert got.flatten().tolist() == pytest.approx([-7.5, -2.5, 2.5, 7.5], rel=1e-5)


@BOTH
@pytest.mark.parametrize("shape", [(30, 8), (5, 8)])
def test_directions_without_variance_are_zero(backend, shape):
    """Rank 3 in eight channels: by design, and of five samples at most 4."""
    generator = torch.Generator().manual_seed(1)
    samples = torch.randn(shape[0], 3, generator=generator) @ torch.randn(3, 8, generator=generator) + 5
    model = ops.pca_fit(samples, 8, backend=backend)
    assert (model.variances > 0).tolist() == [True] * 3 + [False] * 5
    assert torch.equal(model.basis[:, 3:], torch.zeros(8, 5))
    kept = model.basis[:, :3]
    assert torch.allclose(kept.T @ kept, torch.eye(3), atol=1e-5)
    assert torch.allclose(ops.pca_apply(samples, model) @ model.basis.T + model.mean, samples, atol=1e-4)


@BOTH
def test_constant_samples_have_no_direction(backend):
    model = ops.pca_fit(torch.full((50, 7), 1234.567), 3, backend=backend)
    assert torch.equal(model.basis, torch.zeros(7, 3))
    assert torch.equal(model.variances, torch.zeros(3))
    assert torch.equal(ops.pca_apply(torch.full((2, 7), 1234.567), model), torch.zeros(2, 3))


@BOTH
def test_sign_is_that_of_the_largest_entry(backend):
    samples = noise(1, 40, 9, 1)[0, :, :, 0]
    for sign in (1, -1):
        basis = ops.pca_fit(sign * samples, 9, backend=backend).basis
        assert (basis.gather(0, basis.abs().argmax(0, keepdim=True)) > 0).all()


def test_any_strides_and_threads_give_the_same_fit():
    samples, before = noise(1, 700, 130, 1)[0, :, :, 0], torch.get_num_threads()
    wanted = ops.pca_fit(samples, 5, backend="cpu")
    for other in (samples.T.contiguous().T, torch.stack([samples, samples], 2)[:, :, 1]):
        assert relative(ops.pca_fit(other, 5, backend="cpu").basis, wanted.basis) < 1e-4
    torch.set_num_threads(2 if before == 1 else 1)
    got = ops.pca_fit(samples, 5, backend="cpu")
    torch.set_num_threads(before)
    assert relative(got.basis, wanted.basis) < 1e-4


def test_messages_of_the_ops():
    samples = noise(1, 5, 3, 1)[0, :, :, 0]
    with pytest.raises(ShapeError, match=r"pca_fit: samples must be \(N, D\) with N ≥ 2 and D ≥ 1, got shape \(1, 3\)"):
        ops.pca_fit(samples[:1], 1)
    for k in (0, 4, 2.0):
        with pytest.raises(RangeError, match=rf"pca_fit: k must be an int from 1 to D = 3, got {k}"):
            ops.pca_fit(samples, k)
    with pytest.raises(DtypeError, match=r"samples must be float32 or float64, got torch.float16"):
        ops.pca_fit(samples.half(), 1)
    with pytest.raises(ArgumentError, match=r"pca_fit has no gradient: pass samples.detach\(\)"):
        ops.pca_fit(samples.clone().requires_grad_(), 1)
    for bad in (float("nan"), float("inf")):
        wrong = samples.clone()
        wrong[1, 2] = bad
        for backend in ("reference", "cpu"):
            with pytest.raises(RangeError, match=r"samples must be finite \(their squares too\), got NaN or inf"):
                ops.pca_fit(wrong, 2, backend=backend)
    model = ops.pca_fit(samples, 2)
    for wrong in (None, (), model[:1], "ab"):
        with pytest.raises(DtypeError, match=r"pca_apply: model must be a PCAModel"):
            ops.pca_apply(samples, wrong)
    with pytest.raises(ShapeError, match=r"pca_apply: x must be \(N, 3\) or \(B, 3, H, W\), got shape \(5, 2\)"):
        ops.pca_apply(samples[:, :2], model)
    with pytest.raises(ShapeError, match=r"model.mean must be \(3,\), got shape \(2,\)"):
        ops.pca_apply(samples, ops.PCAModel(model.mean[:2], model.basis, model.variances))
