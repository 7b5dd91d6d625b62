"""Hand-computed truths, symmetries, ties and messages of hog."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttrack import ops
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError
from fasttrack.spec.hog import SPECS

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])
SPEC = SPECS[0]


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).float()


@BOTH
def test_ramp_by_hand(backend):
    """I = 10·x: every inner pixel votes 20 into direction 0; edge pixels see half the step."""
    patch = (10.0 * torch.arange(16)).expand(1, 1, 16, 16)
    got = ops.hog(patch, 4, backend=backend)[0, :, 1, 1].double()
    # The bilinear weights of cell (1, 1) sum to 16: B[0] = 320, and n·B ≈ ½ on every block, beyond the clip.
    wanted = torch.zeros(31, dtype=torch.float64)
    wanted[0] = wanted[18] = 0.5 * 4 * 0.2
    wanted[27:] = 0.2357 * 0.2
    assert torch.allclose(got, wanted, atol=1e-6)


@BOTH
def test_one_bright_pixel_by_hand(backend):
    """A pixel of 1 at the centre of a 12 × 12 patch: four gradients of 1, each voting into four cells."""
    patch = torch.zeros(1, 1, 12, 12)
    patch[0, 0, 5, 6] = 1.0
    got = ops.hog(patch, 4, backend=backend)[0].double()
    votes = torch.zeros(18, 3, 3, dtype=torch.float64)
    # right of it dx = −1 (direction 9), left dx = +1 (0), below dy = −1 (13: the tie 13, 14), above dy = +1 (4)
    for y, x, o in ((5, 7, 9), (5, 5, 0), (6, 6, 13), (4, 6, 4)):
        for i in range(3):
            for j in range(3):
                weight = max(0, 1 - abs((y + 0.5) / 4 - 0.5 - i)) * max(0, 1 - abs((x + 0.5) / 4 - 0.5 - j))
                votes[o, i, j] += weight
    energy = ((votes[:9] + votes[9:]) ** 2).sum(0)
    for i, j in ((1, 1), (0, 1), (2, 2)):
        wanted = torch.zeros(31, dtype=torch.float64)
        for e, (di, dj) in enumerate(((1, 1), (-1, 1), (1, -1), (-1, -1))):
            near = [(min(max(i + a, 0), 2), min(max(j + b, 0), 2)) for a in (0, di) for b in (0, dj)]
            n = (sum(energy[cell] for cell in near) + 1e-4) ** -0.5
            clipped = (n * votes[:, i, j]).clamp(max=0.2)
            wanted[:18] += 0.5 * clipped
            wanted[18:27] += 0.5 * (n * (votes[:9] + votes[9:])[:, i, j]).clamp(max=0.2)
            wanted[27 + e] = 0.2357 * clipped.sum()
        assert torch.allclose(got[:, i, j], wanted, atol=1e-6), (i, j)


@BOTH
@pytest.mark.parametrize("degrees", range(4, 360, 12))
def test_direction_of_a_plane(degrees, backend):
    """A plane whose slope points at an angle votes into the nearest of the 18 directions."""
    angle = torch.tensor(float(degrees)).deg2rad()
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    patch = (100 * (torch.cos(angle) * x + torch.sin(angle) * y))[None, None]
    got = ops.hog(patch, 4, backend=backend)[0, :18, 1, 1]
    assert int(got.argmax()) == round(degrees / 20) % 18


@BOTH
def test_ties(backend):
    # dx = 0: directions 4 and 5 (13 and 14) tie, the smaller wins.
    down = (10.0 * torch.arange(16)).view(1, 1, 16, 1).expand(1, 1, 16, 16)
    assert ops.hog(down, 4, backend=backend)[0, :18, 1, 1].nonzero().tolist() == [[4]]
    assert ops.hog(-down, 4, backend=backend)[0, :18, 1, 1].nonzero().tolist() == [[13]]
    # Equal channels: red goes right, green goes down, blue goes left, all by the same step; red wins.
    right = down.transpose(2, 3)
    patch = torch.cat([right, down, -right], 1)
    assert ops.hog(patch, 4, backend=backend)[0, :18, 1, 1].nonzero().tolist() == [[0]]
    assert ops.hog(patch.flip(1), 4, backend=backend)[0, :18, 1, 1].nonzero().tolist() == [[9]]
    # The largest wins whatever its place.
    assert ops.hog(patch * torch.tensor([1.0, 1.5, 1.0]).view(1, 3, 1, 1), backend=backend)[0, 4, 1, 1] > 0.3


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([1, 3]), st.integers(1, 9), st.integers(9, 40), st.integers(9, 40), st.floats(0, 255))
def test_constant_patch_is_zero(channels, cell, height, width, level):
    got = ops.hog(torch.full((2, channels, height, width), level), cell, backend="cpu")
    assert got.shape == (2, 31, height // cell, width // cell)
    assert torch.equal(got, torch.zeros_like(got))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3]))
def test_mirror(seed, cell, rows, columns, channels):
    """Left and right swapped: direction o becomes 9 − o (20° steps), the texture blocks swap sides."""
    patch = noise(1, channels, rows * cell, columns * cell, seed=seed)
    # A gradient straight up or down is a tie that mirroring does not turn over: half a level removes them.
    patch = patch + 0.25 * torch.arange(columns * cell) * (1 + torch.arange(rows * cell).view(-1, 1) / 64)
    got = ops.hog(patch.flip(3), cell, backend="cpu").flip(3)
    order = [(9 - o) % 18 for o in range(18)] + [18 + (9 - o) % 9 for o in range(9)] + [29, 30, 27, 28]
    plain = ops.hog(patch, cell, backend="cpu")
    if columns * cell > 1:
        assert torch.allclose(got, plain[:, order], atol=2e-6)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 50), st.integers(1, 50), st.sampled_from([1, 3]),
    st.integers(1, 3),
)  # fmt: skip
def test_any_size_against_the_reference(seed, cell, height, width, channels, count):
    height, width = max(height, cell), max(width, cell)
    arguments = {"patches": noise(count, channels, height, width, seed=seed), "cell_size": cell}
    assert SPEC.tolerance[torch.float32].admits(ops.hog(**arguments, backend="cpu"), SPEC.truth(arguments))


def test_moved_by_a_cell_the_inside_moves_by_a_cell():
    patch = noise(1, 3, 64, 72)
    whole, cut = ops.hog(patch, 4, backend="cpu"), ops.hog(patch[:, :, 4:, 8:], 4, backend="cpu")
    assert torch.allclose(whole[:, :, 3:-2, 4:-2], cut[:, :, 2:-2, 2:-2], atol=1e-6)
    assert not torch.allclose(whole[:, :, 3:-2, 3:-3], cut[:, :, 2:-2, 2:-2], atol=1e-2)


def test_nan_is_kept():
    """A NaN pixel makes the orientations of the cells around it NaN, and no others."""
    patch = noise(1, 1, 40, 48)
    patch[0, 0, 17, 22] = float("nan")
    got = ops.hog(patch, 4, backend="cpu")
    assert SPEC.tolerance[torch.float32].admits(got, SPEC.truth({"patches": patch, "cell_size": 4}))
    assert got[:, :27].isnan().any(1).equal(got[:, :27].isnan().all(1))
    assert 0 < int(got.isnan()[0, 0].sum()) <= 25


def test_same_result_on_any_number_of_threads():
    before = torch.get_num_threads()
    for patches in (noise(1, 3, 200, 232), noise(5, 3, 96, 100)):
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(ops.hog(patches, backend="cpu"))
        torch.set_num_threads(before)
        assert torch.equal(*results)


def test_strided_patches_are_read_in_place():
    patches = noise(3, 3, 60, 72)
    views = [patches[:, :, 5:45, 7:63], patches[::2], patches.transpose(2, 3), patches[:, :1], patches[:, :, ::2]]
    views += [patches.to(memory_format=torch.channels_last), patches[:1].expand(2, -1, -1, -1)]
    for view in views:
        assert torch.equal(ops.hog(view, backend="cpu"), ops.hog(view.contiguous(), backend="cpu"))


def test_messages():
    patches = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ShapeError, match=r"hog: patches must be \(T, 3 or 1, h, w\), got shape \(3, 16, 16\)"):
        ops.hog(patches[0])
    with pytest.raises(
        ShapeError, match=r"patches must be \(T, 3, h, w\) or \(T, 1, h, w\), got shape \(1, 2, 16, 16\)"
    ):
        ops.hog(patches[:, :2])
    with pytest.raises(DtypeError, match=r"patches must be float32 or float64, got torch.uint8"):
        ops.hog(patches.byte())
    with pytest.raises(ShapeError, match=r"patches must be at least one cell of 17 × 17 px, got shape"):
        ops.hog(patches, 17)
    for cell in (0, -4, 4.0):
        with pytest.raises(RangeError, match=r"cell_size must be an int ≥ 1, got"):
            ops.hog(patches, cell)
    with pytest.raises(ArgumentError, match=r"hog has no gradient: pass patches.detach\(\)"):
        ops.hog(patches.requires_grad_())
