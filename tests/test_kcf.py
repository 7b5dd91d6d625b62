"""KCF and MOSSE on made clips: they follow, repeat themselves, and run many targets as they run one."""

import clips
import cv2
import numpy as np
import pytest
import torch
from clips import Clip, ious, line, standing

from fasttrack.errors import RangeError, ShapeError
from fasttrack.models import FilterConfig, FilterRegressor
from fasttrack.trackers import create_tracker
from fasttrack.vision.features import create
from fasttrack.vision.labels import gaussian_map, hann_window

TRACKERS = ["kcf", "mosse"]


def follow(name, clip, box=None, count=None, **options):
    return clips.follow(name, clip, options, box, count)


@pytest.fixture(scope="module")
def clip():
    return Clip(np.concatenate([line((20, 20), (3, 2), 12), line((53, 42), (2, -1), 8)]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kcf", {}),
        ("kcf", {"kernel": "linear"}),
        ("kcf", {"features": "hog+cn"}),
        ("mosse", {}),
        ("mosse", {"warps": 0}),
    ],
)
def test_follows_a_moving_target(name, options, clip):
    results = follow(name, clip, **options)
    assert ious(results, clip).min() > 0.7
    assert standing(results, clip).mean() < 0.5  # canary: a tracker that stands still fails
    assert not any(r.lost for r in results)
    assert all(r.psr > 3 for r in results)


def test_kcf_follows_a_growing_target():
    clip = Clip(line((60, 50), (0, 0), 16))
    frames = [
        cv2.warpAffine(clip.frame(0), np.float32([[s, 0, 80 - 80 * s], [0, s, 65 - 65 * s]]), (200, 150))
        for s in 1.02 ** np.arange(16)
    ]
    last = list(create_tracker("kcf").run(frames, clip.box(0)))[-1].box
    assert 40 * 1.15 < last.w < 40 * 1.55
    assert last.center == pytest.approx((80, 65), abs=3)
    first = list(create_tracker("kcf", scale_levels=1).run(frames, clip.box(0)))[-1].box
    assert first.w == pytest.approx(40)


def test_kcf_follows_by_a_network_s_features(clip, data):
    weights = data / "weights" / "resnet18_conv1-layer3.safetensors"
    results = follow("kcf", clip, count=8, features="resnet18/conv1", feature_options={"weights": weights})
    assert ious(results, clip).min() > 0.7


@pytest.mark.parametrize("name", TRACKERS)
def test_repeats_itself_and_may_start_again(name, clip):
    frames = clip.frames()[:6]
    tracker = create_tracker(name)
    first = [r.box for r in tracker.run(frames, clip.box(0))]
    assert first == [r.box for r in tracker.run(frames, clip.box(0))]
    assert first == [r.box for r in create_tracker(name).run(frames, clip.box(0))]


@pytest.mark.parametrize("name", TRACKERS)
def test_many_targets_are_as_separate_runs(name, clip):
    rows = np.array([clip.box(0), (110.0, 60.0, 40.0, 30.0), (60.0, 90.0, 40.0, 30.0), (100.0, 20.0, 26.0, 40.0)])
    together = follow(name, clip, box=rows, count=6)
    for k, row in enumerate(rows):
        alone = follow(name, clip, box=row, count=6)
        for both, one in zip(together, alone, strict=True):
            assert both[k].box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=1e-3)
            assert both[k].score == pytest.approx(one.score, abs=1e-5)


@pytest.mark.parametrize("name", TRACKERS)
def test_lost_when_it_disappears_and_found_when_it_returns(name):
    clip = Clip(line((60, 50), (1, 0), 14), seen=[True] * 6 + [False] * 4 + [True] * 4)
    results = follow(name, clip, lost_score=0.3)
    assert [r.lost for r in results] == [False] * 5 + [True] * 4 + [False] * 4
    assert all(r.box == results[4].box for r in results[5:9])
    assert ious(results, clip)[-3:].min() > 0.7


@pytest.mark.parametrize("name", TRACKERS)
def test_grey_frames(name, clip):
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in clip.frames()[:6]]
    assert ious(list(create_tracker(name).run(grey, clip.box(0))), clip).min() > 0.6


def test_wrong_numbers():
    with pytest.raises(RangeError, match=r"Config.*region"):
        create_tracker("kcf", region=0.0)
    with pytest.raises(RangeError, match=r"Config.*kernel.*linear"):
        create_tracker("kcf", kernel="cubic")
    with pytest.raises(RangeError, match=r"Config.*warps"):
        create_tracker("mosse", warps=-1)


def test_the_model_learns_only_the_rows_it_is_told():
    random = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 5, 12, 10, generator=random) for _ in range(2))
    label = gaussian_map((12, 10), torch.tensor([[5.5, 4.5]]), (1.0, 1.0))[0]
    model = FilterRegressor(FilterConfig(rate=0.5), label, hann_window((12, 10)))
    with pytest.raises(RangeError, match="fit on the first frame"):
        model.respond(first[:, None])
    model.fit([first])
    before = model.respond(second[:, None])
    model.update(second[1:2], [1])
    after = model.respond(second[:, None])
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert float((after[1, 0] - label).norm()) < 0.8 * float((before[1, 0] - label).norm())
    with pytest.raises(ShapeError):
        model.respond(second[:, None, :3])


def test_grey_is_even_and_flat_patches_are_zero():
    patches = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0)) * 255
    maps = create("grey")(patches)
    assert maps.shape == (2, 1, 12, 16)
    assert maps.mean((1, 2, 3)).abs().max() < 1e-5
    assert (maps.square().mean((1, 2, 3)) - 1).abs().max() < 1e-4
    assert torch.equal(create("grey")(torch.full((1, 3, 8, 8), 77.0)), torch.zeros(1, 1, 8, 8))
    assert create("grey", stride=4)(patches).shape == (2, 1, 3, 4)
    # A brighter or more contrasty picture of the same thing is nearly the same map (log).
    assert torch.corrcoef(torch.stack([maps[0].flatten(), create("grey")(patches[:1] * 0.5).flatten()]))[0, 1] > 0.99
