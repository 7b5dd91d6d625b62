"""PCA of feature channels against an SVD, and what it refuses."""

import numpy as np
import pytest
import torch
from made_weights import noise, relative

from fasttrack.errors import RangeError, ShapeError
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
    assert np.allclose(pca.variances, s[:5] ** 2 / (x.shape[1] - 1))
    assert got.is_contiguous()
    again = PCA(5).fit(maps.clone())
    assert torch.equal(again.basis, pca.basis)
    assert torch.equal(pca.apply(maps.contiguous(memory_format=torch.channels_last)), got)


def test_pca_keeps_all_of_too_few_channels(caplog):
    maps = noise(1, 3, 5, 5)
    with caplog.at_level("INFO"):
        pca = PCA(64).fit(maps)
    assert pca.kept == 3
    assert "64 channels wanted, 3 are there: all kept" in caplog.text
    centred = maps - maps.mean((2, 3), keepdim=True)
    assert relative(pca.apply(maps).square().sum(), centred.square().sum()) < 1e-5  # a rotation


def test_pca_refuses_what_it_cannot_fit():
    with pytest.raises(RangeError, match="finite, got NaN"):
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
