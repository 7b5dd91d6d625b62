"""Several regressors on mixtures of several reduced maps (DSLT's residual fusion), trained end to end."""

import pytest
import torch
from test_conv_reduction_and_batch import bump, normal, relative
from torch.nn.functional import conv2d

from fasttrack import nn, ops
from fasttrack.errors import RangeError, ShapeError
from fasttrack.spec.base import Tolerance

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])
DSLT = ((1.0, 0.0), (1.0, 1.0))
RELEASED = ((0.8, 0.0), (0.2, 1.0))
NAMES = ("weight", "bias", "reduction", "history")


class Network:
    """DSLT as its paper draws it, in float64: 1×1 convolutions, their sum, two regressors, torch's optimizers."""

    def __init__(self, fusion, weight, bias, matrix):
        self.fusion = fusion
        self.w = [w.double().clone().requires_grad_() for w in weight]
        self.b = bias.double().clone().requires_grad_()
        self.a = [m.double().clone().requires_grad_() for m in matrix.split(fusion.channels, 1)]

    def response(self, x):
        maps = x.double().split(self.fusion.channels)
        reduced = [conv2d(f[None], m[:, :, None, None]) for f, m in zip(maps, self.a, strict=True)]
        total = self.b[:, None, None, None]
        for r, w in enumerate(self.w):
            fused = sum(row[r] * f for row, f in zip(self.fusion.mixing, reduced, strict=True))
            total = total + conv2d(fused, w[None])
        return total[0, 0]

    def train(self, p, steps, optimizer, lr, reduction_lr, bias_lr, reduction_decay):
        rates = zip(self.w, self.fusion.rates, strict=True), zip(self.a, self.fusion.reduction_rates, strict=True)
        groups = [{"params": [w], "lr": lr * k} for w, k in rates[0]]
        groups += [{"params": [m], "lr": reduction_lr * k} for m, k in rates[1]]
        groups.append({"params": [self.b], "lr": bias_lr})
        move = (torch.optim.Adam if optimizer == "adam" else torch.optim.SGD)(groups, lr=lr)
        loss_of, history = p.loss, []
        for step in range(steps + 1):
            responses = [self.response(f.features) for f in p.frames]
            loss = sum(
                type(loss_of)(loss_of.a, loss_of.c, reduction="sum")(r, y.double())
                for r, y in zip(responses, p.targets, strict=True)
            )
            flat = torch.cat([r.detach().flatten() for r in responses])
            history.append([loss.item(), torch.exp(flat.max() - flat.mean()).item()])
            if step == steps:
                break
            decay = sum(k * w.square().sum() for w, k in zip(self.w, self.fusion.decays, strict=True))
            penalty = p.weight_decay * decay + reduction_decay * sum(m.square().sum() for m in self.a)
            move.zero_grad()
            (loss + penalty).backward()
            move.step()
        self.weight, self.bias = torch.stack(self.w).detach(), self.b.detach()
        self.reduction, self.history = torch.cat(self.a, 1).detach(), torch.tensor(history, dtype=torch.float64)
        return self


def problem(channels, kernel=(7, 5), frames=2, size=(30, 25), decay=0.3):
    maps = [normal(channels, size[0] + i, size[1] - i, seed=i) for i in range(frames)]
    targets = [bump(m.shape[1] - kernel[0] + 1, m.shape[2] - kernel[1] + 1) for m in maps]
    return ops.ConvRegressionProblem(maps, targets, nn.ShrinkageLoss(), decay)


def start(fusion, reduced, kernel=(7, 5)):
    weight = 0.05 * normal(fusion.regressors, reduced, *kernel, seed=9)
    return weight, torch.tensor([0.1]), normal(reduced, sum(fusion.channels), seed=8) / 4


# Maps of whole vectors; whose border lies within one; three in one vector; more regressors than maps; one of each.
FUSIONS = [
    (ops.Fusion((32, 32), DSLT, (1.0, 40.0), (1.0, 40.0)), 16, (7, 5)),
    (ops.Fusion((21, 14), RELEASED, (1.0, 8.0), decays=(1.0, 8.0)), 9, (4, 3)),
    (ops.Fusion((3, 2, 5), ((0.5, 2.0), (-1.0, 0.0), (1.0, 1.0)), (2.0, 1.0), (1.0, 3.0, 0.5)), 5, (5, 2)),
    (ops.Fusion((40, 9), ((1.0, 0.3, 0.0), (0.0, 1.0, -2.0)), decays=(1.0, 0.0, 2.0)), 33, (3, 1)),
    (ops.Fusion((17,), ((0.7,),)), 6, (1, 1)),
]


def rates(lr):
    return {"reduction_lr": 2.5 * lr, "bias_lr": 30 * lr, "reduction_decay": 5.0}


def fusion_against_network(fusion, reduced, kernel, optimizer, lr, backend, steps=8):
    p, begin = problem(sum(fusion.channels), kernel), start(fusion, reduced, kernel)
    weight, bias, matrix = begin
    own = rates(lr)
    got = p.run(weight, bias, steps, optimizer, lr, reduction=matrix, fusion=fusion, backend=backend, **own)
    truth = Network(fusion, *begin).train(p, steps, optimizer, lr, **own)
    bound = Tolerance(5e-6, 3e-5, witness="9.9e-7, 1.2e-6")
    for name in NAMES:
        assert bound.admits(getattr(got, name), getattr(truth, name)), name
    assert got.weight.shape == weight.shape
    # The bound sees a step less, every rate and every decay of its own.
    shorter = Network(fusion, *begin).train(p, steps - 1, optimizer, lr, **own)
    assert not bound.admits(got.weight, shorter.weight)
    for name, value in {"reduction_lr": lr, "bias_lr": 0.0, "reduction_decay": 0.0}.items():
        other = Network(fusion, *begin).train(p, steps, optimizer, lr, **own | {name: value})
        assert not all(bound.admits(getattr(got, n), getattr(other, n)) for n in NAMES), name


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-4), ("gd", 1e-6)])
@pytest.mark.parametrize(("fusion", "reduced", "kernel"), FUSIONS)
@BOTH
def test_fusion_is_the_network(fusion, reduced, kernel, optimizer, lr, backend, poisoned):
    fusion_against_network(fusion, reduced, kernel, optimizer, lr, backend)


@pytest.mark.parametrize("change", ["rates", "reduction_rates", "decays", "mixing"])
def test_the_bound_sees_every_part_of_a_fusion(change):
    fusion = ops.Fusion((21, 14), RELEASED, (1.0, 8.0), (1.0, 4.0), (1.0, 8.0))
    left_out = {"rates": (), "reduction_rates": (), "decays": (), "mixing": DSLT}[change]
    other = ops.Fusion(**{**vars(fusion), change: left_out})
    p, (weight, bias, matrix) = problem(35), start(fusion, 9)
    one, two = (
        p.run(weight, bias, 8, "adam", 1e-4, reduction=matrix, fusion=f, **rates(1e-4)) for f in (fusion, other)
    )
    bound = Tolerance(5e-6, 3e-5)
    assert not all(bound.admits(getattr(one, n), getattr(two, n)) for n in NAMES)


def test_one_map_and_regressor_is_the_plain_reduction():
    p, fusion = problem(21), ops.Fusion((21,), ((1.0,),))
    weight, bias, matrix = start(fusion, 9)
    fused = p.run(weight, bias, 6, "adam", 1e-3, reduction=matrix, fusion=fusion)
    plain = p.run(weight[0], bias, 6, "adam", 1e-3, reduction=matrix)
    assert torch.equal(fused.weight[0], plain.weight)
    assert torch.equal(fused.reduction, plain.reduction)


def test_fusion_does_not_depend_on_threads():
    fusion = ops.Fusion((37, 30), DSLT, (1.0, 40.0))
    p, (weight, bias, matrix) = problem(67), start(fusion, 29)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            run = p.run(weight, bias, 5, "adam", 1e-4, reduction=matrix, fusion=fusion)
            results.append([run.weight, run.bias, run.reduction, run.history, run.state.moments])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@BOTH
def test_fusion_goes_on_from_its_state(backend):
    fusion = ops.Fusion((21, 14), DSLT, (1.0, 40.0))
    p, (weight, bias, matrix) = problem(35), start(fusion, 9)
    same = {"fusion": fusion, "backend": backend}
    whole = p.run(weight, bias, 9, "adam", 1e-4, reduction=matrix, **same)
    first = p.run(weight, bias, 4, "adam", 1e-4, reduction=matrix, **same)
    assert first.state.moments.shape == (2, *weight.shape)
    second = p.run(first.weight, first.bias, 5, "adam", 1e-4, state=first.state, reduction=first.reduction, **same)
    for name in ("weight", "bias", "reduction"):
        torch.testing.assert_close(getattr(second, name), getattr(whole, name), rtol=1e-5, atol=1e-6)
    afresh = p.run(first.weight, first.bias, 5, "adam", 1e-4, reduction=first.reduction, **same)
    assert relative(afresh.weight, whole.weight) > 1e-4  # canary: the state matters


@BOTH
def test_a_bias_held(backend):
    fusion = ops.Fusion((21, 14), DSLT)
    p, (weight, bias, matrix) = problem(35), start(fusion, 9)
    held = p.run(weight, bias, 3, "adam", 1e-4, reduction=matrix, fusion=fusion, bias_lr=0, backend=backend)
    assert torch.equal(held.bias, bias)
    assert not torch.equal(held.weight, weight)
    free = p.run(weight, bias, 3, "adam", 1e-4, reduction=matrix, fusion=fusion, backend=backend)
    assert not torch.equal(free.bias, bias)
    plain = problem(9)
    assert torch.equal(plain.run(None, bias, 3, "gd", 1e-4, bias_lr=0, backend=backend).bias, bias)


def test_response_of_a_fusion():
    fusion = ops.Fusion((21, 14), RELEASED)
    p, (weight, bias, matrix) = problem(35), start(fusion, 9)
    truth = Network(fusion, weight, bias, matrix).response(p.frames[-1].features).detach()
    for backend in ("reference", "cpu"):
        got = p.frames[-1].response(weight, bias, matrix, fusion=fusion, backend=backend)
        assert relative(got, truth) < 2e-6
    assert relative(p.response(weight, bias, reduction=matrix, fusion=fusion), truth) < 2e-6
    other = ops.Fusion((21, 14), DSLT)
    assert relative(p.response(weight, bias, reduction=matrix, fusion=other), truth) > 1e-2


def test_fusions_of_a_batch():
    fusion = ops.Fusion((21, 14), DSLT, (1.0, 40.0))
    problems, starts = [problem(35), problem(35, frames=1)], [start(fusion, 9) for _ in range(2)]
    weights, biases, matrices = zip(*starts, strict=True)
    weights = weights[0], 2 * weights[1]
    same = {"fusion": fusion, "bias_lr": 0.0}
    together = ops.ConvRegressionBatch(problems).run(weights, biases, 4, "adam", 1e-4, reduction=matrices, **same)
    for p, w, b, m, got in zip(problems, weights, biases, matrices, together, strict=True):
        alone = p.run(w, b, 4, "adam", 1e-4, reduction=m, **same)
        assert torch.equal(got.weight, alone.weight)
        assert torch.equal(got.reduction, alone.reduction)


def test_messages_of_a_fusion():
    with pytest.raises(RangeError, match=r"channels must be at least one map of at least one channel, got \(3, 0\)"):
        ops.Fusion((3, 0), DSLT)
    with pytest.raises(ShapeError, match=r"mixing must be 2 rows, one per map, with one share per regressor each"):
        ops.Fusion((3, 2), ((1.0, 0.0), (1.0,)))
    with pytest.raises(RangeError, match=r"mixing must be finite shares"):
        ops.Fusion((3, 2), ((1.0,), (float("nan"),)))
    with pytest.raises(ShapeError, match=r"reduction_rates must be 2 numbers, or none, got \(1.0,\)"):
        ops.Fusion((3, 2), DSLT, reduction_rates=(1.0,))
    with pytest.raises(RangeError, match=r"rates must be finite numbers > 0, got \(1.0, 0.0\)"):
        ops.Fusion((3, 2), DSLT, (1.0, 0.0))
    with pytest.raises(RangeError, match=r"decays must be finite numbers ≥ 0, got \(-1.0, 0.0\)"):
        ops.Fusion((3, 2), DSLT, decays=(-1.0, 0.0))
    fusion = ops.Fusion((21, 14), DSLT)
    p, (weight, bias, matrix) = problem(35), start(fusion, 9)
    with pytest.raises(RangeError, match=r"reduction must be \(D, C\) with a fusion, got None"):
        p.run(weight, bias, 1, lr=0.1, fusion=fusion)
    with pytest.raises(
        ShapeError, match=r"weight must be \(2, D, kh, kw\), one per regressor, got shape \(1, 9, 7, 5\)"
    ):
        p.run(weight[:1], bias, 1, lr=0.1, reduction=matrix, fusion=fusion)
    with pytest.raises(ShapeError, match=r"fusion must be of maps of 35 channels together.*got \(21, 15\)"):
        p.run(weight, bias, 1, lr=0.1, reduction=matrix, fusion=ops.Fusion((21, 15), DSLT))
    with pytest.raises(RangeError, match=r"bias_lr must be a finite number ≥ 0, got -1"):
        p.run(weight, bias, 1, lr=0.1, reduction=matrix, fusion=fusion, bias_lr=-1)
    with pytest.raises(RangeError, match=r"bias_lr must be None with optimizer 'cg', got 0.1"):
        problem(3).run(None, None, 1, "cg", bias_lr=0.1)
