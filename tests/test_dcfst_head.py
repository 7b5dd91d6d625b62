"""DCFST's learnt parts: the head's collapsed score, the IoU-net, gradients through both, the refinement of boxes."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from fasttrack import ops
from fasttrack.errors import ShapeError
from fasttrack.models import BoxRefiner, IoUNet, PooledHead, PooledSamples, RefinementConfig, RidgeConfig, RidgeLocator
from fasttrack.models.box_refinement import refined, starts
from fasttrack.models.ridge_locator import swept
from fasttrack.vision.features.networks import NETWORKS

TAPS = [dataclasses.replace(NETWORKS["resnet18"].tap(n), channels=c) for n, c in (("layer2", 3), ("layer3", 2))]
SIDE = 96


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def maps(count=2, dtype=torch.float64, seed=0):
    """Maps of patches of 96 px."""
    random = generator(seed)
    return [
        torch.randn(count, t.channels, SIDE // t.stride, SIDE // t.stride, generator=random, dtype=dtype) for t in TAPS
    ]


def settled(module, seed=1):
    """The module in float64 and eval mode, with weights and statistics of batch norms that are all at work."""
    random = generator(seed)
    for name, value in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            low = 0.5 if name.endswith(("running_var", "norm.weight")) else -0.5
            value.copy_(low + torch.rand(value.shape, generator=random))
    return module.double().eval()


def small_head():
    return settled(PooledHead(TAPS, bins=[(3, 2), (2, 2)], channels=(4, 3), width=5))


def small_net():
    return settled(IoUNet(TAPS, channels=4))


def grid(count, targets=2, object_px=30.0, dtype=torch.float64):
    low = torch.linspace(-5, SIDE - 25, count, dtype=dtype)
    return torch.stack([low, low + object_px], 1).expand(targets, count, 2).clone()


def by_hand(block, x):
    """Convolution, then batch norm in inference mode, then ReLU."""
    norm = block.norm
    y = F.conv2d(x, block.conv.weight, block.conv.bias, padding=block.conv.padding)
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    return ((y - norm.running_mean[:, None, None]) * gain[:, None, None] + norm.bias[:, None, None]).clamp_min(0)


def distance(got, want):
    return float((got.detach() - want.detach()).norm() / want.detach().norm())


# --- head -----------------------------------------------------------------------------------------


def test_rows_are_linear_layers_of_pooled_learnt_maps():
    head, features, x, y = small_head(), maps(), grid(4), grid(3, object_px=20.0)
    parts = []
    for i, tap in enumerate(TAPS):
        learnt = by_hand(head.convs[i][1], by_hand(head.convs[i][0], features[i]))
        rois = ops.prroi_grid_rois(x - tap.first_centre_px, y - tap.first_centre_px)
        pooled = ops.prroi_pool(learnt, rois, head.bins[i], 1 / tap.stride).flatten(1)
        parts.append((pooled @ head.linear[i].weight.T + head.linear[i].bias).view(2, 12, 5))
    want = torch.cat(parts, 2)
    got = head.rows(head.maps(features), (x, y))
    assert distance(got, want) < 1e-12
    assert distance(head.rows(features_of_wrong_order(head, features), (x, y)), want) > 1e-2  # canary


def features_of_wrong_order(head, features):
    """ReLU before the batch norm."""
    out = []
    for convs, x in zip(head.convs, features, strict=True):
        for block in convs:
            x = block.norm(torch.relu(block.conv(x)))
        out.append(x)
    return out


def test_collapsed_scores_are_products_with_the_rows():
    head, x, y = small_head(), grid(5), grid(4, object_px=20.0)
    learnt = head.maps(maps())
    rows = head.rows(learnt, (x, y))
    gains = head.gains(rows)
    weight = torch.randn(2, 10, generator=generator(), dtype=torch.float64)
    want = ((rows * gains) @ weight[:, :, None]).view(2, 4, 5)
    larger = 1.1 * x, y + 3.0
    scores = head.scores(learnt, [larger, (x, y)], weight * gains[:, 0])
    assert scores.shape == (2, 2, 4, 5)
    got = scores[:, 1]
    assert distance(got, want) < 1e-8
    assert distance(scores[:, 0], ((head.rows(learnt, larger) * gains) @ weight[:, :, None]).view(2, 4, 5)) < 1e-8
    assert distance(got.flip(2), want) > 1e-2 and distance(scores[:, 0], want) > 1e-2
    assert distance(head.scores(learnt, [(x, y)], weight)[:, 0], want) > 1e-2
    for layer in head.linear:
        torch.nn.init.zeros_(layer.bias)
    assert distance(head.scores(learnt, [(x, y)], weight * gains[:, 0])[:, 0], want) > 1e-2  # the bias counts


def test_many_targets_are_pooled_a_few_at_a_time():
    head, features, at = small_head(), maps(19), (grid(3, 19), grid(2, 19))
    learnt = head.maps(features)
    whole = head.rows(learnt, at)
    assert distance(whole[17:18], head.rows([m[17:18] for m in learnt], (at[0][17:18], at[1][17:18]))) < 1e-12
    samples = PooledSamples(TAPS, [(1, 1), (2, 1)])
    _, gains = samples.first(iter([features]), at)
    assert distance(gains, samples.gains(samples.rows(features, at))) < 1e-12
    assert distance(gains.flip(0), gains) > 1e-3  # canary


def test_gains_bring_every_column_to_rms_one_in_every_frame():
    head, first, second, at = small_head(), maps(), maps(seed=5), (grid(4), grid(3))
    rows, others = (head.rows(m, at) for m in (head.maps(first), head.maps(second)))
    (samples,), gains = head.later(head.maps(second), at, torch.ones(2, 1, 10))
    assert torch.equal(samples, others * gains)  # whatever the gains were before
    assert torch.allclose(samples.square().mean(1), torch.ones(2, 10, dtype=torch.float64))
    (mean,), plain = head.first(iter([head.maps(first), head.maps(second)]), at)
    assert torch.equal(plain, head.gains(rows))
    assert distance(mean, (rows * plain + samples) / 2) < 1e-12  # each copy by its own RMS
    assert torch.isfinite(head.gains(torch.zeros(1, 4, 10))).all()
    for maker in (head, PooledSamples(TAPS, [(1, 1), (1, 1)])):
        with pytest.raises(ShapeError, match="first"):
            maker.first(iter([]), at)
    with pytest.raises(ShapeError, match="2 maps"):
        PooledHead(TAPS, bins=[(1, 1)], channels=(1, 1))


def test_gradients_through_the_head_and_the_solver():
    """What offline training differentiates: rows, their RMS, the ridge regression, the scores of another frame."""
    head, x, y = settled(PooledHead(TAPS, [(2, 1), (1, 1)], (2, 2), width=3, blocks=1)), grid(3), grid(2)
    label = torch.rand(2, 6, generator=generator(), dtype=torch.float64)
    other = head_inputs(5)

    def loss(first, second, *parameters):
        state = dict(zip(dict(head.named_parameters()), parameters, strict=True))
        rows = [
            torch.func.functional_call(_Rows(head), {f"head.{k}": v for k, v in state.items()}, (m, (x, y)))
            for m in ((first, other[1]), (second, other[1]))
        ]
        train, test = (r * head.gains(r) for r in rows)
        return (test @ ops.ridge_solve(train, label, 0.1)[:, :, None]).square().sum()

    inputs = [head_inputs(0)[0].requires_grad_(), head_inputs(1)[0].requires_grad_()]
    parameters = [p.detach().clone().requires_grad_() for p in head.parameters()]
    assert torch.autograd.gradcheck(loss, (*inputs, *parameters), fast_mode=True)


def head_inputs(seed):
    return [
        torch.randn(2, t.channels, 6 // (i + 1), 6 // (i + 1), generator=generator(seed), dtype=torch.float64)
        for i, t in enumerate(TAPS)
    ]


class _Rows(torch.nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, features, at):
        return self.head.rows(self.head.maps(features), at)


# --- sweeps ---------------------------------------------------------------------------------------


def test_sweeps_go_from_the_last_solution_to_the_exact_one():
    random = generator()
    samples = torch.randn(40, 6, generator=random, dtype=torch.float64)
    label = torch.rand(40, generator=random, dtype=torch.float64)
    exact = ops.ridge_solve(samples, label, 0.5)
    start = torch.randn(6, generator=random, dtype=torch.float64)
    errors = [distance(swept(samples, label, 0.5, start, n), exact) for n in (1, 5, 200)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-10
    assert distance(start, exact) > 0.5  # canary
    model = RidgeLocator(RidgeConfig(0.5, interval=9, sweeps=2), label)
    model.fit([samples[None]])
    assert distance(model.weight[0], exact) < 1e-12  # the first frame exactly
    model.update([samples[None].flip(1)], [0], [0.5])
    assert distance(model.weight[0], exact) < 1e-12  # not due
    model.update([samples[None].flip(1)], [0], [0.0], at_once=[0])
    mixed = (samples + samples.flip(0)) / 2
    assert distance(model.weight[0], swept(mixed, label, 0.5, exact, 2)) < 1e-12


def test_the_first_frame_keeps_its_share_for_good():
    random = generator()
    first, second, third = (torch.randn(1, 8, 3, generator=random, dtype=torch.float64) for _ in range(3))
    label = torch.rand(8, generator=random, dtype=torch.float64)
    model = RidgeLocator(RidgeConfig(0.5, interval=1, first_share=0.5), label)
    model.fit([first])
    model.update([second], [0], [0.6])  # .4 of the first is left, brought back to .5
    assert distance(model.weight[0], ops.ridge_solve((first + second)[0] / 2, label, 0.5)) < 1e-12
    model.update([third], [0], [0.2])
    mixed = 0.8 * (first + second) / 2 + 0.2 * third
    mixed = mixed.lerp(first, 0.1 / 0.6)
    assert distance(model.weight[0], ops.ridge_solve(mixed[0], label, 0.5)) < 1e-12


# --- IoU-net --------------------------------------------------------------------------------------

BOXES = torch.tensor([[[20.0, 25.0, 40.0, 30.0], [30.0, 20.0, 25.0, 50.0], [0.0, 5.0, 60.0, 60.0]]] * 2).double()


def iou_by_hand(net, reference, target, test, boxes):
    """As ATOM writes it: the test maps are multiplied first, then pooled."""

    def pool(x, tap, box, side):
        roi = torch.tensor([[0.0, box[0], box[1], box[0] + box[2], box[1] + box[3]]], dtype=torch.float64)
        roi[:, 1:] -= tap.first_centre_px
        return ops.prroi_pool(x, roi, side, 1 / tap.stride)

    shallow = by_hand(net.reference_shallow, pool(by_hand(net.reference[0], reference[0]), TAPS[0], target, 3))
    deep = pool(by_hand(net.reference[1], reference[1]), TAPS[1], target, 1)
    factors = [by_hand(block, torch.cat([shallow, deep], 1)) for block in net.factors]
    out = []
    for box in boxes:
        parts = []
        for i, side in enumerate((5, 3)):
            x = by_hand(net.test[i][1], by_hand(net.test[i][0], test[i])) * factors[i]
            parts.append(net.linear[i](pool(x, TAPS[i], box, side)))
        out.append(net.iou(torch.cat(parts, 1)))
    return torch.cat(out)[:, 0]


def test_iou_net_is_atoms_and_targets_do_not_mix():
    net, reference, test = small_net(), maps(seed=3), maps(seed=4)
    targets = BOXES[0, :2]
    modulation = net.modulation(reference, targets)
    assert [m.shape for m in modulation] == [(2, 4), (2, 4)]
    got = net(net.maps(test), modulation, BOXES)
    assert got.shape == (2, 3)
    for t in range(2):
        one = [m[t : t + 1] for m in reference], targets[t], [m[t : t + 1] for m in test], BOXES[t]
        want = iou_by_hand(net, *one)
        assert distance(got[t], want) < 1e-10
        assert distance(got[1 - t], want) > 1e-3  # canary: the other target's
    with pytest.raises(ShapeError, match="two maps"):
        IoUNet(TAPS[:1])


def test_gradients_through_the_iou_net():
    net, test = small_net(), maps(seed=4)
    reference = maps(seed=3)

    def predict(boxes, first, second, *parameters):
        state = dict(zip(dict(net.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(
            _Predict(net), {f"net.{k}": v for k, v in state.items()}, (boxes, first, second)
        )

    class _Predict(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, boxes, first, second):
            modulation = self.net.modulation(reference, BOXES[:, 0] + 1)
            return self.net(self.net.maps([first, second]), modulation, boxes)

    boxes = (BOXES[:, :2] + torch.rand(2, 2, 4, generator=generator(), dtype=torch.float64)).requires_grad_()
    inputs = [m.clone().requires_grad_() for m in test]
    parameters = [p.detach().clone().requires_grad_() for p in net.parameters()]
    assert torch.autograd.gradcheck(predict, (boxes, *inputs, *parameters), fast_mode=True)
    (gradient,) = torch.autograd.grad(predict(boxes, *inputs, *parameters).sum(), boxes)
    assert float(gradient.abs().min()) > 0  # the coordinates have one each


def test_the_caller_can_train_both():
    """One step of Adam in training mode lowers the loss of a head and an IoU-net."""
    torch.manual_seed(0)
    head = PooledHead(TAPS, bins=[(3, 2), (2, 2)], channels=(4, 3), width=5)
    net = IoUNet(TAPS, channels=4)
    features, x, y = maps(dtype=torch.float32), grid(4, dtype=torch.float32), grid(3, dtype=torch.float32)
    want = torch.rand(2, 12, generator=generator())

    def loss():
        rows = head.rows(head.maps(features), (x, y))
        rows = rows * head.gains(rows)
        scores = (rows @ ops.ridge_solve(rows.flip(1), want, 0.1)[:, :, None])[:, :, 0]
        boxes = BOXES.float()
        ious = net(net.maps(features), net.modulation(features, boxes[:, 0]), boxes)
        return (scores - want).square().mean() + (ious - 0.5).square().mean()

    parameters = [*head.parameters(), *net.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    before = loss()
    before.backward()
    # A bias in front of a batch norm over its own batch has no gradient but rounding.
    assert all(p.grad is not None for p in parameters)
    optimiser.step()
    for _ in range(10):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < 0.9 * before.item()


# --- refinement -----------------------------------------------------------------------------------

TARGET = torch.tensor([[30.0, 40.0, 50.0, 60.0]])
ROUGH = torch.tensor([[33.0, 36.0, 54.0, 55.0]])


def iou(boxes, target=TARGET):
    """Differentiable IoU of (T, K, 4) boxes with (T, 4) targets."""
    low = torch.maximum(boxes[..., :2], target[:, None, :2])
    high = torch.minimum(boxes[..., :2] + boxes[..., 2:], target[:, None, :2] + target[:, None, 2:])
    common = (high - low).clamp_min(0).prod(2)
    return common / (boxes[..., 2:].prod(2) + target[:, None, 2:].prod(2) - common)


def test_ascent_improves_the_iou():
    config = RefinementConfig(steps=20)
    first = starts(ROUGH, config, [generator()])
    best, kept = refined(iou, first, config)
    before, after = float(iou(ROUGH[:, None])), float(iou(best[:, None]))
    assert kept.tolist() == [True] and after > before + 0.05
    still, _ = refined(iou, first, dataclasses.replace(config, rate=0.0))
    away, _ = refined(lambda at: -iou(at), first, config)
    assert float(iou(still[:, None])) < after - 0.03 and float(iou(away[:, None])) < before  # canaries


def test_a_step_is_the_gradient_times_the_sides():
    slope = torch.tensor([0.01, -0.02, 0.03, -0.01])
    config = RefinementConfig(boxes=1, best=1, steps=1)
    best, _ = refined(lambda at: (at * slope).sum(2), ROUGH[:, None], config)
    assert torch.allclose(best, ROUGH + slope * ROUGH[:, 2:].repeat(1, 2))
    coarse = dataclasses.replace(config, gradient_grain=0.02)
    best, _ = refined(lambda at: (at * (slope + 0.001)).sum(2), ROUGH[:, None], coarse)
    grained = torch.tensor([0.02, -0.02, 0.04, 0.0])
    assert torch.allclose(best, ROUGH + grained * ROUGH[:, 2:].repeat(1, 2))


def test_starts_are_jittered_within_bounds_and_by_target():
    config = RefinementConfig(boxes=400)
    boxes = torch.tensor([[10.0, 20.0, 90.0, 10.0], [0.0, 0.0, 40.0, 40.0]])
    first = starts(boxes, config, [generator(0), generator(0)])
    assert torch.equal(first[:, 0], boxes) and first.shape == (2, 400, 4)
    root = boxes[:, 2:].prod(1).sqrt()
    centres, middle = first[..., :2] + first[..., 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    away = (centres - middle[:, None]).abs().amax((1, 2)) / root
    assert ((away > 0.045) & (away <= 0.0501)).all()
    sides = (first[1, :, 2:] - 40).abs().max() / 40
    assert 0.24 < float(sides) <= 0.2501
    assert float(first[0, :, 3].min()) == pytest.approx(10 / 3, rel=1e-5)  # no side under a third of the smaller
    assert torch.equal(starts(boxes[1:], config, [generator(0)])[0], first[1])


def test_best_boxes_are_averaged_and_long_ones_dropped():
    boxes = torch.tensor([[[0.0, 0, 20, 20], [4.0, 0, 20, 20], [8.0, 0, 20, 20], [50.0, 0, 70, 10]]])
    values = torch.tensor([[0.1, 0.2, 0.3, 0.9]])
    config = RefinementConfig(boxes=4, best=2, steps=1)
    best, kept = refined(lambda at: values + 0 * at.sum(2), boxes, config)
    assert best.tolist() == [[6.0, 0.0, 20.0, 20.0]] and kept.all()
    all_long = boxes[:, 3:].repeat(1, 2, 1)
    _, kept = refined(lambda at: 0 * at.sum(2), all_long, config)
    assert not kept.any()


class _Known(torch.nn.Module):
    """An IoU-net that knows the targets (its modulation are their boxes)."""

    def modulation(self, maps, boxes):
        return (boxes,)

    def maps(self, maps):
        return tuple(maps)

    def forward(self, maps, modulation, boxes):
        return iou(boxes, modulation[0])


def test_refiner_mixes_sizes_takes_places_and_knows_its_targets():
    config = RefinementConfig(steps=20, seed=3)
    targets = torch.cat([TARGET, TARGET + torch.tensor([[5.0, 5, 10, -10]])])
    rough = targets + torch.tensor([[3.0, -4, 4, -5]])
    refiner = BoxRefiner(_Known(), config)
    refiner.start([], targets)
    both = refiner([], rough, [0, 1])
    assert (iou(both[:, None], targets) > iou(rough[:, None], targets)).all()
    for k in range(2):
        alone = BoxRefiner(_Known(), config)
        alone.start([], targets[k : k + 1])
        assert torch.equal(alone([], rough[k : k + 1], [0])[0], both[k])
    kept = BoxRefiner(_Known(), config)
    kept.start([], targets)
    kept.keep([1])
    assert torch.equal(kept([], rough[1:], [0])[0], both[1])
    whole = BoxRefiner(_Known(), dataclasses.replace(config, size_rate=1.0))
    whole.start([], targets)
    full = whole([], rough, [0, 1])
    centres = [b[:, :2] + b[:, 2:] / 2 for b in (both, full)]
    assert torch.allclose(*centres, atol=1e-4)
    assert torch.allclose(both[:, 2:], 0.7 * rough[:, 2:] + 0.3 * full[:, 2:], atol=1e-4)
    long = torch.tensor([[0.0, 0.0, 90.0, 9.0]])
    only = BoxRefiner(_Known(), dataclasses.replace(config, boxes=1))
    only.start([], long)
    assert torch.equal(only([], long, [0]), long)  # dropped: the rough box stays
