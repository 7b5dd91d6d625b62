"""The regressor of CRT: figure 2 of the paper, units of the features, history, protocol."""

import cv2
import numpy as np
import pytest
import torch
from clips import texture

from fasttrack import ops
from fasttrack.geometry import Box, Window
from fasttrack.models import ConvRegressor, RegressorConfig
from fasttrack.nn import TruncatedLoss
from fasttrack.vision.crop import sample
from fasttrack.vision.features import create
from fasttrack.vision.labels import gaussian_map
from fasttrack.vision.localise import home

KERNEL = (10, 8)
CONFIG = RegressorConfig(
    threshold=0.1,
    a=1.0,
    weight_decay=1e-3,
    solver="adam",
    fit_lr=2e-5,
    fit_steps=1500,
    fit_loss=0.02,
    update_lr=1e-5,
    update_steps=2,
    history=3,
    init_std=1e-5,
    seed=0,
)


def training_pair(frame, box):
    """HOG of the 9×5 patch around a box, and its labels."""
    window = Window.around(*box.center, box.w * 9, box.h * 5, KERNEL[1] * 36, KERNEL[0] * 20)
    maps = create("hog")(sample(torch.from_numpy(frame), [window]))[0]
    size = KERNEL[0] * 4 + 1, KERNEL[1] * 8 + 1
    middle = torch.tensor([home((maps.shape[1], maps.shape[2]), KERNEL)])
    return maps, gaussian_map(size, middle, (0.1 * KERNEL[0], 0.1 * KERNEL[1]))[0]


@pytest.fixture(scope="module")
def pair():
    frame = texture(150, 240, 5, 9).round().astype(np.uint8)
    return training_pair(frame, Box(100, 55, 40, 50))


def test_fit_reaches_its_loss_and_peaks_at_the_label(pair):
    maps, labels = pair
    model = ConvRegressor(KERNEL, CONFIG)
    fit = model.fit(maps, labels)
    assert fit.loss < CONFIG.fit_loss and fit.steps < CONFIG.fit_steps
    response = model.respond(maps[None])
    assert response.shape == (1, *labels.shape)
    assert response.argmax() == labels.argmax()
    assert (response[0] - labels).abs().max() < 0.2
    torch.testing.assert_close(model.respond([model.spectra(maps)]), response, rtol=1e-4, atol=1e-5)


def test_scaled_features_give_the_same_responses(pair):
    maps, labels = pair
    plain, scaled = ConvRegressor(KERNEL, CONFIG), ConvRegressor(KERNEL, CONFIG.in_units_of(1000.0))
    one, other = plain.fit(maps, labels), scaled.fit(maps * 1000, labels)
    assert abs(one.steps - other.steps) <= 0.05 * one.steps
    torch.testing.assert_close(plain.respond(maps[None]), scaled.respond(maps[None] * 1000), rtol=0, atol=0.02)
    unscaled = ConvRegressor(KERNEL, CONFIG)
    steps = unscaled.fit(maps * 1000, labels).steps
    assert abs(one.steps - steps) > 0.2 * one.steps  # canary: without the conversion it learns otherwise


def test_cg_needs_far_fewer_steps(pair):
    maps, labels = pair
    adam = ConvRegressor(KERNEL, CONFIG).fit(maps, labels)
    cg = ConvRegressor(KERNEL, RegressorConfig(**{**CONFIG.__dict__, "solver": "cg"})).fit(maps, labels)
    assert cg.loss < CONFIG.fit_loss
    assert cg.steps < 0.2 * adam.steps


def test_update_learns_a_change_and_keeps_only_its_history(pair):
    maps, labels = pair
    model = ConvRegressor(KERNEL, CONFIG)
    model.fit(maps, labels)
    changed = maps.clone()
    changed[:, 20:30, 32:40] *= 0.6
    before = model.respond(changed[None]).max()
    for _ in range(60):
        fit = model.update(model.spectra(changed), labels)
        assert fit.steps == CONFIG.update_steps
    assert model.respond(changed[None]).max() > before + 0.05
    assert len(model._samples) == CONFIG.history


def test_fit_again_forgets(pair):
    maps, labels = pair
    model = ConvRegressor(KERNEL, CONFIG)
    model.fit(maps, labels)
    first = model.weight
    model.update(maps, labels.roll(5, 1))
    model.fit(maps, labels)
    assert torch.equal(model.weight, first)


def snr_curves(maps, labels, lr):
    """SNR per step of plain gradient descent: (th = 0.05, a = 1) and (th = 0, a = 0), CRT figure 2."""
    curves = []
    for threshold, a in ((0.05, 1.0), (0.0, 0.0)):
        problem = ops.ConvRegressionProblem([maps], [labels], TruncatedLoss(threshold, a), 1e-3)
        curves.append(problem.run(None, None, 300, "gd", lr).history[:, 1])
    return curves


def assert_figure_2(maps, labels):
    energy = maps.square().sum(0).mean() * KERNEL[0] * KERNEL[1] * labels.numel()
    mined, plain = snr_curves(maps, labels, lr=float(0.5 / energy))
    assert (mined[20:] > plain[20:]).all()
    # Canary: the two would not differ if threshold and weight did nothing.
    assert mined[-1] - 1 > 1.3 * (plain[-1] - 1)
    assert mined[-1] > 1.05


def test_figure_2_on_a_made_frame(pair):
    assert_figure_2(*pair)


@pytest.mark.data
def test_figure_2_on_a_real_frame(data):
    folder = data / "sequences" / "David"
    frame = cv2.cvtColor(cv2.imread(str(folder / "img" / "0001.jpg")), cv2.COLOR_BGR2RGB)
    x, y, w, h = (float(v) for v in (folder / "groundtruth_rect.txt").read_text().split("\n")[0].split(","))
    assert_figure_2(*training_pair(frame, Box(x - 1, y - 1, w, h)))
