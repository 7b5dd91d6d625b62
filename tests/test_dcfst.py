"""DCFST with and without a trained head: samples and scores agree, it follows made clips, many targets are as one."""

import functools

import clips
import cv2
import numpy as np
import pytest
import torch
from clips import Clip, ious, line, standing

from fasttrack import ops
from fasttrack.errors import RangeError, ShapeError, WeightsError
from fasttrack.models import IoUNet, PooledHead, PooledSamples, RidgeConfig, RidgeLocator
from fasttrack.models.dcfst_weights import parts_of, save_head
from fasttrack.trackers import create_tracker, run_lockstep
from fasttrack.vision.features.networks import NETWORKS

TAPS = [NETWORKS["resnet18"].tap(name) for name in ("layer2", "layer3")]


@pytest.fixture
def quick(small):
    """Options of a small DCFST on made weights."""
    return small["dcfst"]


@pytest.fixture(scope="module")
def real(data):
    """Options of DCFST on the given weights: made ones see too little to be followed by."""
    weights = data / "weights" / "resnet18_conv1-layer3.safetensors"
    return {"backbone_options": {"weights": weights}, "bins": (6, 3), "augment": False}


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Files of a made head, without and with an IoU-net: random weights, as training would start from."""
    folder = tmp_path_factory.mktemp("heads")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head, refine = PooledHead(TAPS), IoUNet(TAPS)
    # Predictions between -1 and 1, as after training: steeper ones make the ascent chaotic.
    refine.iou.weight.data.mul_(0.1)
    save_head(folder / "head.safetensors", "resnet18", parts_of(head, None))
    save_head(folder / "both.safetensors", "resnet18", parts_of(head, refine), {"fasttrack.note": "made both"})
    return folder


@pytest.fixture
def headed(quick, heads):
    """Options of a small DCFST on a made backbone, head and IoU-net."""
    # Samples of made weights are nearly alike: with the usual λ the solution would show every rounding.
    return {**quick, "bins": (8, 4), "grid": 7, "ridge": 10.0, "head": str(heads / "both.safetensors")}


@pytest.fixture(scope="module")
def clip():
    return Clip(np.concatenate([line((20, 20), (3, 2), 8), line((41, 34), (2, -1), 4)]))


follow = functools.partial(clips.follow, "dcfst")


def test_follows_a_moving_target(clip, real):
    results = follow(clip, real)
    assert ious(results, clip).min() > 0.7
    assert standing(results, clip).mean() < 0.6  # canary: a tracker that stands still fails
    assert not any(r.lost for r in results)


@pytest.mark.parametrize(("how", "low", "high"), [("filter", 1.12, 1.25), ("none", 0.99, 1.01)])
def test_follows_a_growing_target(real, how, low, high):
    """1.015¹² = 1.196 times the first size at the end."""
    still = Clip(line((60, 50), (0, 0), 1))
    frames = [
        cv2.warpAffine(still.frame(0), np.float32([[s, 0, 80 - 80 * s], [0, s, 65 - 65 * s]]), (200, 150))
        for s in 1.015 ** np.arange(13)
    ]
    last = list(create_tracker("dcfst", **real, size_search=how).run(frames, still.box(0)))[-1].box
    assert 40 * low < last.w < 40 * high
    assert last.w / last.h == pytest.approx(40 / 30)
    assert last.center == pytest.approx((80, 65), abs=3)


def test_says_which_weights_and_that_no_head_is_trained(quick):
    note = create_tracker("dcfst", **quick).weights_note
    assert "resnet18.pth" in note and "no trained head" in note


def test_says_which_head(headed, heads):
    assert "head and IoU-net: made both" in create_tracker("dcfst", **headed).weights_note
    assert "made both, no box refinement" in create_tracker("dcfst", **headed, refine=False).weights_note
    alone = create_tracker("dcfst", **{**headed, "head": str(heads / "head.safetensors")})
    assert "head: head.safetensors, no box refinement" in alone.weights_note


def test_a_random_head_on_true_features_follows_a_moving_target(clip, real, heads):
    """Random layers keep distances; the sizes are searched as without a head."""
    options = {**real, "bins": (8, 4), "grid": 21, "head": str(heads / "head.safetensors")}
    results = follow(clip, options, count=7)
    assert ious(results, clip).min() > 0.7
    assert standing(results, clip).min() < 0.5  # canary
    assert not any(r.lost for r in results)


def test_a_box_is_refined_where_there_is_an_iou_net(clip, headed):
    both, plain = (follow(clip, {**headed, "refine": refine, "lost_score": 0.0}, count=4) for refine in (True, False))
    assert all(np.isfinite(r.box.as_tuple()).all() for r in both)
    first = both[0].box.w / both[0].box.h, plain[0].box.w / plain[0].box.h
    assert first[1] == pytest.approx(40 / 30) and first[0] != pytest.approx(40 / 30, abs=1e-4)
    again = follow(clip, {**headed, "lost_score": 0.0}, count=4)
    assert [r.box for r in again] == [r.box for r in both]
    other = follow(clip, {**headed, "lost_score": 0.0, "seed": 1}, count=4)
    assert other[0].box != both[0].box


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_many_refined_targets_and_videos_are_as_separate_runs(clip, headed, variant):
    options = {**headed, "lost_score": 0.0, "variant": variant, "hard_score": 0.05, "interval": 2}
    rows = np.array([clip.box(0), (110.0, 60.0, 40.0, 30.0), (100.0, 20.0, 26.0, 40.0)])
    together, alone = follow(clip, options, rows, 5), [follow(clip, options, row, 5) for row in rows]
    for k, own in enumerate(alone):
        for both, one in zip(together, own, strict=True):
            assert both[k].box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=1e-2)
    assert together[-1][1].box.as_tuple() != pytest.approx(together[-1][2].box.as_tuple(), abs=1e-1)  # canary
    frames = clip.frames()[:5]
    videos = [(frames, rows[0]), (frames[:3], rows[1]), (frames, rows[2])]
    steps = list(run_lockstep(videos, create_tracker("dcfst", **options)))
    assert [len([r for r in step if r is not None]) for step in steps] == [3, 3, 2, 2]
    for step, *own in zip(steps, *alone, strict=True):
        for both, one in zip(step, own, strict=True):
            assert both is None or both.box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=1e-2)


def test_the_released_variant(clip, quick):
    config = create_tracker("dcfst", **quick, variant="released").config
    wanted = {
        "rate": 0.013,
        "hard_rate": 0.125,
        "first_share": 0.25,
        "sweeps": 30,
        "window_clamped": True,
        "search_rms": True,
    }
    assert {name: getattr(config, name) for name in wanted} == wanted
    assert create_tracker("dcfst", **quick, variant="released", rate=0.5).config.rate == 0.5
    assert create_tracker("dcfst", **quick).config.rate == 0.01
    plain, released = (
        follow(clip, {**quick, "variant": v, "hard_score": 0.01}, count=6) for v in ("paper", "released")
    )
    assert plain[0].score == pytest.approx(released[0].score, abs=1e-5)  # one first frame
    assert plain[-1].score != pytest.approx(released[-1].score, abs=1e-4)
    with pytest.raises(RangeError, match=r"variant.*'released'"):
        create_tracker("dcfst", **quick, variant="ours")


def test_a_search_may_scale_by_its_own_rms(clip, headed):
    options = {**headed, "lost_score": 0.0, "refine": False, "size_search": "none"}
    still = Clip(line((60, 50), (0, 0), 2))
    for clip_, same in ((still, True), (clip, False)):
        own, last = (follow(clip_, {**options, "search_rms": own}, count=2)[0] for own in (True, False))
        # Of the frame that was learnt from both are one, up to the rounding of a batch of copies.
        assert (own.score == pytest.approx(last.score, abs=1e-4)) is same


def test_a_head_that_does_not_fit(headed, heads, tmp_path):
    with pytest.raises(WeightsError, match=r"head\.linear\.0\.weight: wanted floats of shape \(512, 2048\)"):
        create_tracker("dcfst", **{**headed, "bins": (4, 2)})
    with pytest.raises(WeightsError, match="needs weights that are not at hand"):
        create_tracker("dcfst", **{**headed, "head": "nothing-of-this-name"})


def test_repeats_itself_and_many_targets_are_as_separate_runs(clip, quick):
    rows = np.array([clip.box(0), (110.0, 60.0, 40.0, 30.0), (100.0, 20.0, 26.0, 40.0)])
    together = follow(clip, quick, rows, 5)
    for k, row in enumerate(rows):
        alone = follow(clip, quick, row, 5)
        for both, one in zip(together, alone, strict=True):
            assert both[k].box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=1e-2)
            assert both[k].score == pytest.approx(one.score, abs=1e-3)


def test_lost_when_it_disappears(real):
    clip = Clip(line((60, 50), (1, 0), 8), seen=[True] * 4 + [False] * 2 + [True] * 2)
    results = follow(clip, {**real, "lost_score": 0.4})
    assert [r.lost for r in results] == [False] * 3 + [True] * 2 + [False] * 2
    assert all(r.box == results[2].box for r in results[3:5])


def test_follows_after_augmentation(clip, real):
    assert ious(follow(clip, {**real, "augment": True}, count=4), clip).min() > 0.7


def test_huge_tiny_and_border_targets(clip, quick):
    for box in ((0.0, 0.0, 400.0, 300.0), (10.0, 10.0, 1.0, 1.0), (190.0, 140.0, 40.0, 40.0)):
        for result in follow(clip, quick, box, 3):
            assert all(np.isfinite(result.box.as_tuple()))


def test_wrong_numbers(quick):
    with pytest.raises(RangeError, match=r"Config.*ridge"):
        create_tracker("dcfst", **quick, ridge=0.0)
    with pytest.raises(RangeError, match=r"Config.*backbone.*resnet50"):
        create_tracker("dcfst", backbone="vgg16")


def _grid(targets, side, count=5, object_px=40.0):
    low = torch.linspace(-10, side - 30, count)
    return torch.stack([low, low + object_px], 1).expand(targets, count, 2).clone()


def test_scores_are_the_products_with_the_samples():
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, t.channels, s, s, generator=random) for t, s in zip(TAPS, (16, 8), strict=True)]
    samples = PooledSamples(TAPS, [(4, 4), (2, 3)])
    x, y = _grid(2, 128), _grid(2, 128, 4, 30.0)
    rows = samples.rows(maps, (x, y))
    assert rows.shape == (2, 20, sum(samples.columns))
    weight = torch.randn(2, rows.shape[2], generator=random)
    want = (rows.double() @ weight.double()[:, :, None]).view(2, 4, 5)
    got = samples.scores(maps, [(x, y), (x + 9.0, y)], weight)
    assert got.shape == (2, 2, 4, 5)
    shifted, got = got[:, 1], got[:, 0]
    assert float((shifted - want).norm() / want.norm()) > 0.1
    assert float((got - want).norm() / want.norm()) < 1e-5
    assert float((got.flip(2) - want).norm() / want.norm()) > 0.1
    with pytest.raises(ShapeError, match="2 maps"):
        PooledSamples(TAPS, [(4, 4)])


def test_the_mean_of_maps_is_solved_as_the_mean_of_their_rows():
    """The state of two frames gives the regression on the mean of their rows, without forming them."""
    random = torch.Generator().manual_seed(0)
    frames = [
        [torch.randn(1, t.channels, s, s, generator=random) + 0.5 for t, s in zip(TAPS, (16, 8), strict=True)]
        for _ in range(2)
    ]
    samples = PooledSamples(TAPS, [(4, 3), (2, 2)])
    at = _grid(1, 128, 6, 45.0), _grid(1, 128, 5)  # the first reach over the edge
    first, second = (samples.rows(maps, at) for maps in frames)
    state, gains = samples.first(iter(frames[:1]), at)
    assert torch.allclose(gains, samples.gains(first))
    later, same = samples.later(frames[1], at, gains)
    assert torch.equal(same, gains)
    label = torch.rand(30, generator=random)
    model = RidgeLocator(RidgeConfig(0.5, interval=1), label, samples.solve)
    model.fit(state)
    for rows in (first, 0.7 * first + 0.3 * second):
        want = ops.ridge_solve((rows * gains)[0].double(), label.double(), 0.5)
        got = model.weight[0].double()
        assert float((got - want).norm() / want.norm()) < 1e-5  # seen: 6e-7
        assert float((1.001 * got - want).norm() / want.norm()) > 1e-4  # canary
        model.update(later, [0], [0.3])
    with pytest.raises(RangeError, match=r"sweeps.*0.*without a trained head"):
        samples.solve([part[0] for part in state], label, 0.5, None, 3)
    both, _ = samples.first(iter(frames), at)
    assert torch.allclose(samples.rows(both[:2], at), (first + second) / 2, atol=1e-5)


def test_rows_lie_where_the_taps_say():
    """A RoI of one cell around the centre of cell (2, 3) of layer2 pools that cell's neighbourhood, centred on it."""
    tap = TAPS[0]
    feature = torch.zeros(1, tap.channels, 8, 8)
    feature[0, :, 2, 3] = 1.0
    samples = PooledSamples([tap], [(1, 1)])
    centres = torch.tensor([tap.offset_px + (k + 0.5) * tap.stride for k in (2.9, 3.0, 3.1)])
    x = torch.stack([centres - 2, centres + 2], 1)[None]
    rows_centre = torch.tensor([tap.offset_px + 2.5 * tap.stride])
    y = torch.stack([rows_centre - 2, rows_centre + 2], 1)[None]
    values = samples.rows([feature], (x, y))[0, :, 0]
    assert values[1] == values.max() and values[0] == pytest.approx(float(values[2]), rel=1e-5)


def test_gains_make_every_map_weigh_the_same():
    rows = torch.randn(2, 50, 12, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0] * 4 + [0.1] * 8)
    samples = PooledSamples([TAPS[0]], [(1, 1)], width=10.0)
    samples.columns = [4, 8]
    scaled = rows * samples.gains(rows)
    for part in scaled.split([4, 8], 2):
        assert part.square().sum(2).mean(1).tolist() == pytest.approx([5.0, 5.0], rel=1e-4)


def test_locator_averages_and_solves_when_due():
    random = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 30, 6, generator=random) for _ in range(2))
    label = torch.rand(30, generator=random)
    model = RidgeLocator(RidgeConfig(ridge=0.5, interval=2, first_share=0.6), label)
    with pytest.raises(RangeError, match="fit on the first frame"):
        model.update([first], [0, 1], [0.1, 0.1])
    model.fit([first])
    start = model.weight.clone()
    assert torch.allclose(start[0], ops.ridge_solve(first[0], label, 0.5))
    model.update([second[:1]], [0], [0.25])
    assert torch.equal(model.weight, start)  # not due yet
    model.update([second[:1]], [0], [0.25])
    # 0.75² = 0.5625 of the first frame is left: less than 0.6, so it is brought back to that.
    mixed = 0.6 * first[0] + 0.4 * second[0]
    assert torch.allclose(model.weight[0], ops.ridge_solve(mixed, label, 0.5), atol=1e-5)
    assert torch.equal(model.weight[1], start[1])
