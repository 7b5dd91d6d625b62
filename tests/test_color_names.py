"""Hand-computed cells, bins, NaN, strides and messages of color_names."""

import pytest
import torch

from fasttrack import ops
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError
from fasttrack.vision.features import ColorNames

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])


def table_of(terms=11):
    """Row number and its multiples: exact in float32."""
    return torch.arange(32768.0)[:, None] * torch.arange(1, terms + 1)


def patches_of(*shape, seed=0):
    return 255 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@BOTH
@pytest.mark.parametrize("terms", [1, 8, 11, 16, 17])
def test_by_hand(backend, terms):
    # Pixels (r, g, b) of one 2 × 2 cell: rows 0, 1 + 32·2 + 1024·3, 31 + 32·31 + 1024·31, 0 of the table.
    pixels = [[0.0, 7.99, 0.0], [8.0, 16.5, 31.9], [300.0, 255.0, 254.0], [-4.0, 0.0, 0.0]]
    patches = torch.tensor(pixels).T.reshape(1, 3, 2, 2)
    got = ops.color_names(patches, table_of(terms), 2, backend=backend)
    mean = (0 + (1 + 64 + 3072) + 32767 + 0) / 4
    assert got.flatten().tolist() == pytest.approx([mean * k for k in range(1, terms + 1)], rel=1e-6)


@BOTH
def test_every_row_of_the_table(backend):
    level = torch.arange(32.0) * 8 + 4
    b, g, r = torch.meshgrid(level, level, level, indexing="ij")
    patches = torch.stack([r, g, b]).view(1, 3, 128, 256)
    got = ops.color_names(patches, table_of(), 1, backend=backend)
    assert torch.equal(got[0].flatten(1).T, table_of())


@BOTH
def test_a_nan_pixel_makes_its_cell_nan(backend):
    patches = patches_of(2, 3, 13, 19)
    patches[1, 2, 5, 9] = float("nan")
    patches[0, 0, 12, 0] = float("nan")  # in an incomplete cell: dropped
    marked = ops.color_names(patches, table_of(), 4, backend=backend).isnan()
    assert marked[1, :, 1, 2].all()
    assert marked.sum() == 11


@pytest.mark.parametrize("layout", ["cut", "channels_last", "transposed"])
def test_strides(layout):
    plain = patches_of(2, 3, 16, 24)
    if layout == "cut":
        patches = patches_of(2, 4, 30, 40)[:, 1:, 3:19, 5:29]
    elif layout == "channels_last":
        patches = plain.contiguous(memory_format=torch.channels_last)
    else:
        patches = plain.transpose(2, 3).contiguous().transpose(2, 3)
    wanted = ops.color_names(patches.contiguous(), table_of(), 4, backend="reference")
    got = ops.color_names(patches, table_of().T.contiguous().T, 4, backend="cpu")
    assert torch.allclose(got, wanted, rtol=1e-6)
    assert not torch.allclose(got.roll(1, 3), wanted, rtol=1e-6)


def test_same_result_on_any_number_of_threads():
    patches, before, results = patches_of(3, 3, 120, 160), torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(ops.color_names(patches, table_of(), 4, backend="cpu"))
    torch.set_num_threads(before)
    assert torch.equal(*results)


def test_the_feature_is_the_op():
    feature, patches = ColorNames(5), patches_of(2, 3, 31, 44)
    got = feature(patches)
    assert torch.allclose(got, ops.color_names(patches, feature._table, 5, backend="reference"), atol=1e-6)
    assert torch.allclose(got.sum(1), torch.ones(2, 6, 8), atol=1e-5)


def test_messages():
    patches, table = patches_of(1, 3, 8, 8), table_of()
    with pytest.raises(ShapeError, match=r"color_names: patches must be \(T, 3, h, w\), got shape \(1, 1, 8, 8\)"):
        ops.color_names(patches[:, :1], table)
    with pytest.raises(ShapeError, match=r"at least one cell of 9 × 9 px, got shape \(1, 3, 8, 8\)"):
        ops.color_names(patches, table, 9)
    with pytest.raises(DtypeError, match=r"patches must be float32 or float64, got torch.uint8"):
        ops.color_names(patches.byte(), table)
    with pytest.raises(DtypeError, match=r"table must be of the dtype of patches, torch.float32, got torch.float64"):
        ops.color_names(patches, table.double())
    with pytest.raises(ShapeError, match=r"table must be \(32768, K\) with K ≥ 1, got shape \(11, 32768\)"):
        ops.color_names(patches, table.T)
    for size in (0, 2.0):
        with pytest.raises(RangeError, match=rf"cell_size must be an int ≥ 1, got {size}"):
            ops.color_names(patches, table, size)
    with pytest.raises(ArgumentError, match=r"color_names has no gradient: pass patches.detach\(\)"):
        ops.color_names(patches.requires_grad_(), table)
