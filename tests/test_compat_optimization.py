"""Optimisers against dense solvers, closed forms, solved starts, and what they may ask the device."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from dense_solvers import DenseCG, jacobian
from torch.utils._python_dispatch import TorchDispatchMode

from fasttrack.compat.pytracking.fourier import cfft2, inner_prod_fs
from fasttrack.compat.pytracking.operation import conv1x1, conv2d
from fasttrack.compat.pytracking.optimization import (
    ConjugateGradient,
    ConjugateGradientBase,
    GaussNewtonCG,
    GradientDescent,
    GradientDescentL2,
    L2Problem,
    MinimizationProblem,
    NewtonCG,
)
from fasttrack.compat.pytracking.tensorlist import TensorList
from fasttrack.errors import ArgumentError, DtypeError, RangeError
from fasttrack.spec.base import Tolerance

# Twelve steps amplify rounding by the condition of the system.
CLOSE = Tolerance(1e-9, 1e-9, witness="3e-12, 4e-12")
RULES = pytest.mark.parametrize(("fletcher_reeves", "standard_alpha"), [(True, True), (True, False), (False, True)])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def system(n, seed=0):
    """A positive definite matrix of condition around ten, and a right side."""
    factor = random(n, n, seed=seed) / n**0.5
    return factor @ factor.T + torch.eye(n, dtype=torch.float64) / 2, random(n, seed=seed + 1)


class MatrixCG(ConjugateGradientBase):
    """A x = b of a dense matrix, of a tensor or of two parts with numbers of their own."""

    def __init__(self, listed, matrix=None, b=None, M=None, **options):
        super().__init__(**options)
        self.listed, self.matrix, self.M = listed, matrix, M
        self.b = None if b is None else self.split(b)
        self.products = 0

    def split(self, v):
        return TensorList([v[:3], v[3:]]) if self.listed else v

    def join(self, v):
        return torch.cat(list(v)) if self.listed else v

    def A(self, x):
        self.products += 1
        return self.split(self.matrix @ self.join(x))

    def M1(self, x):
        return x if self.M is None else self.split(self.M @ self.join(x))


@RULES
@pytest.mark.parametrize("forget", [0, 0.7])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_steps_are_those_of_the_dense_solver(fletcher_reeves, standard_alpha, forget, listed, preconditioned):
    """Three runs, each on a system a little different and from where the last one ended, as in tracking."""
    options = {"fletcher_reeves": fletcher_reeves, "standard_alpha": standard_alpha}
    solver = MatrixCG(listed, direction_forget_factor=forget, debug=True, **options)
    dense = DenseCG([slice(0, 3), slice(3, 8)] if listed else [slice(0, 8)], forget=forget, **options)
    truth, x = torch.zeros(8, dtype=torch.float64), solver.split(torch.zeros(8, dtype=torch.float64))
    for frame in range(3):
        matrix, b = system(8)
        matrix, b = matrix + 0.05 * torch.diag(random(8, seed=frame).abs()), b + 0.1 * random(8, seed=frame)
        M = torch.diag(1 / matrix.diagonal()) if preconditioned else None
        solver.matrix, solver.b, solver.M = matrix, solver.split(b), M
        truth, norms = dense.run(matrix, b, 4, truth, M)
        out, residuals = solver.run_CG(4, x)
        assert out is x and CLOSE.admits(solver.join(x), truth)
        assert residuals.tolist() == pytest.approx(norms, rel=1e-9)
    for wrong in (0 * truth, 1.0001 * truth, truth.roll(1)):
        assert not CLOSE.admits(solver.join(x), wrong)


@RULES
@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_n_steps_solve_n_equations(n, fletcher_reeves, standard_alpha):
    matrix, b = system(n)
    solver = MatrixCG(False, matrix, b, fletcher_reeves=fletcher_reeves, standard_alpha=standard_alpha)
    x, residuals = solver.run_CG(n)
    assert residuals is None and CLOSE.admits(x, torch.linalg.solve(matrix, b))
    if n > 2:
        assert not CLOSE.admits(solver.run_CG(n - 2)[0], torch.linalg.solve(matrix, b))


@RULES
@pytest.mark.parametrize("forget", [0, 0.5])
def test_a_solved_system_stays_where_it_is(fletcher_reeves, standard_alpha, forget):
    options = {"fletcher_reeves": fletcher_reeves, "standard_alpha": standard_alpha, "direction_forget_factor": forget}
    matrix = torch.diag(torch.tensor([1.0, 2.0, 4.0, 0.5], dtype=torch.float64))
    solution = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    solver = MatrixCG(False, matrix, matrix @ solution, **options)
    # One step along the first axis is exact: its remainder is 0 to the last bit.
    assert torch.equal(solver.run_CG(6)[0], solution)
    assert torch.equal(solver.run_CG(6, solution.clone())[0], solution)
    solver.b = matrix @ torch.ones(4, dtype=torch.float64)
    assert CLOSE.admits(solver.run_CG(6, solution.clone())[0], torch.ones(4, dtype=torch.float64))


def test_a_solved_part_waits_for_the_other():
    matrix, b = torch.block_diag(torch.eye(3, dtype=torch.float64), system(5)[0]), torch.cat((torch.ones(3), random(5)))
    x, _ = MatrixCG(True, matrix, b).run_CG(9)
    assert CLOSE.admits(torch.cat(list(x)), torch.linalg.solve(matrix, b))


def test_a_direction_of_no_curvature_is_not_taken():
    solver = MatrixCG(False, torch.zeros(2, 2), torch.ones(2))
    assert solver.run_CG(3)[0].tolist() == [0, 0]


def test_not_a_number_is_not_hidden():
    matrix, b = system(4)
    assert MatrixCG(False, matrix, b * float("nan")).run_CG(3)[0].isnan().all()


def test_stop_by_residual():
    matrix, b = system(12)
    exact = MatrixCG(False, matrix, b, debug=True)
    _, norms = exact.run_CG(12)
    solver = MatrixCG(False, matrix, b, debug=True)
    _, stopped = solver.run_CG(12, eps=float(norms[5]) * 1.001)
    assert solver.products == 5 and torch.equal(stopped, norms[:6])


def test_reset_forgets_the_direction():
    matrix, b = system(6)
    fresh, used = (MatrixCG(False, matrix, b, direction_forget_factor=0.5) for _ in range(2))
    used.run_CG(2)
    assert not CLOSE.admits(used.run_CG(2)[0], fresh.run_CG(2)[0])
    fresh.reset_state(), used.reset_state()
    assert torch.equal(used.run_CG(2)[0], fresh.run_CG(2)[0])


class Spectral(ConjugateGradientBase):
    """ECO's kind of system: a filter per feature, as half spectra with an axis of two, and their inner product."""

    def __init__(self, energy, b, preconditioned):
        super().__init__()
        self.energy, self.b, self.preconditioned = energy, b, preconditioned

    def A(self, x):
        return self.energy * x

    def ip(self, a, b):
        return inner_prod_fs(a, b)

    def M1(self, x):
        return x / self.energy if self.preconditioned else x


@pytest.mark.parametrize(("preconditioned", "steps"), [(True, 1), (False, 14)])
def test_spectra_of_several_features(preconditioned, steps):
    b = TensorList(cfft2(random(1, 2, *size)) for size in ((3, 3), (2, 3)))
    # Real maps have real energies alike at opposite frequencies: they depend on the channel and the column here.
    energy = TensorList(1 + torch.rand(1, 2, 1, part.shape[3], 1, dtype=torch.float64) for part in b)
    start = TensorList(torch.zeros_like(part) for part in b)
    x, _ = Spectral(energy, b, preconditioned).run_CG(steps, start)
    assert x is start
    for got, wanted in zip(x, b / energy, strict=True):
        assert CLOSE.admits(got, wanted) and not CLOSE.admits(1.0001 * got, wanted)


class Linear(L2Problem):
    """r(x) = matrix·x − y of the parts of x in one vector."""

    def __init__(self, matrix, y):
        self.matrix, self.y = matrix, y

    def __call__(self, x):
        if isinstance(x, torch.Tensor):
            return self.matrix @ x.reshape(-1) - self.y
        return TensorList([self.matrix @ torch.cat([part.reshape(-1) for part in x]) - self.y])


@pytest.mark.parametrize("listed", [False, True])
def test_linear_residuals_give_least_squares(listed):
    matrix, y = random(20, 8), random(20, seed=1)
    truth = torch.linalg.lstsq(matrix, y.unsqueeze(1)).solution[:, 0]
    for optimizer, run in ((ConjugateGradient, (8,)), (GaussNewtonCG, (8, 1)), (GaussNewtonCG, ([3, 8],))):
        x = TensorList([random(2, 2, seed=4), random(4, seed=5)]) if listed else random(8, seed=4)
        kept = list(x) if listed else [x]
        optimizer(Linear(matrix, y), x).run(*run)
        got = torch.cat([part.reshape(-1) for part in kept])
        assert CLOSE.admits(got, truth) and not CLOSE.admits(got, 1.0001 * truth)
        assert not any(part.requires_grad for part in kept)


class Factorized(L2Problem):
    """The two-layer target model of ATOM: φ(w ∗ (P x)) with weights of samples and of both layers."""

    def __init__(self, samples, y, filter_reg=0.3, projection_reg=0.2, blocks=True):
        self.samples, self.y, self.blocks = samples, y, blocks
        self.filter_reg, self.projection_reg = filter_reg, projection_reg

    def __call__(self, x):
        count = len(x) // 2
        filters, projections = x[:count], x[count:]
        responses = conv2d(conv1x1(self.samples, projections), filters, mode="same").apply(F.elu)
        residuals = (responses - self.y) * 0.5
        return residuals.concat(filters * self.filter_reg).concat(projections * self.projection_reg)

    def ip_input(self, a, b):
        if not self.blocks:
            return super().ip_input(a, b)
        count = len(a) // 2
        each = TensorList((u * v).sum().reshape(1) for u, v in zip(a, b, strict=True))
        pairs = each[:count] + each[count:]
        return pairs.concat(pairs.clone())

    def M1(self, x):
        return x / TensorList([2.0, 3.0] * (len(x) // 2))


def factorized(levels=1, dtype=torch.float64):
    samples = TensorList(random(3, 4, 5, 4, seed=k).to(dtype) for k in range(levels))
    y = TensorList(random(3, 1, 5, 4, seed=7 + k).abs().to(dtype) for k in range(levels))
    filters = TensorList((random(1, 2, 2, 2, seed=3 + k) / 4).to(dtype) for k in range(levels))
    projections = TensorList((random(2, 4, 1, 1, seed=5 + k) / 2).to(dtype) for k in range(levels))
    return samples, y, filters.concat(projections)


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("blocks", [False, True])
@RULES
def test_gauss_newton_is_that_of_the_dense_solver(levels, blocks, fletcher_reeves, standard_alpha):
    samples, y, variable = factorized(levels)
    problem = Factorized(samples, y, blocks=blocks)
    shapes = [part.shape for part in variable]

    def split(v):
        return TensorList(u.view(shape) for u, shape in zip(v.split([s.numel() for s in shapes]), shapes, strict=True))

    def flat(v):
        return torch.cat([part.reshape(-1) for part in v])

    start, x = flat(variable).clone(), flat(variable).clone()
    M = torch.diag(flat(problem.M1(split(torch.ones_like(x)))))
    ends = torch.tensor([0, *(s.numel() for s in shapes)]).cumsum(0).tolist()
    places = torch.arange(len(x))
    pairs = [[slice(*pair) for pair in pairwise(ends)][k::levels] for k in range(levels)]
    blocked = [torch.cat([places[part] for part in pair]) for pair in pairs] if blocks else [places]
    options = {"fletcher_reeves": fletcher_reeves, "standard_alpha": standard_alpha}
    losses = []
    for steps in (3, 4):
        r, J = jacobian(lambda v: flat(problem(split(v))), x)
        losses.append(float(r @ r))
        x = x + DenseCG(blocked, **options).run(J.T @ J, -J.T @ r, steps, torch.zeros_like(x), M)[0]
    optimizer = GaussNewtonCG(problem, variable, debug=True, **options)
    got_losses, residuals = optimizer.run([3, 4])
    assert CLOSE.admits(flat(variable), x)
    assert not CLOSE.admits(flat(variable), start) and not CLOSE.admits(flat(variable), 1.0001 * x)
    assert got_losses[:2].tolist() == pytest.approx(losses, rel=1e-6)
    assert residuals.shape == (4 + 5,) and got_losses.shape == (3,)
    if not blocks:
        assert got_losses[2] < got_losses[1] < got_losses[0]


def test_gauss_newton_records_when_asked():
    samples, y, variable = factorized()
    problem = Factorized(samples, y, blocks=False)
    quiet, loud = TensorList(variable.clone()), TensorList(variable.clone())
    losses, residuals = GaussNewtonCG(problem, quiet).run(2, 2)
    assert losses.numel() == residuals.numel() == 0
    optimizer = GaussNewtonCG(problem, loud, analyze=True)
    losses, residuals = optimizer.run(2, 2)
    assert losses.shape == optimizer.gradient_mags.shape == (5,) and residuals.shape == (6,)
    first = problem(variable)
    assert losses[0].item() == pytest.approx(float(problem.ip_output(first, first)), rel=1e-6)
    last = problem(loud)
    assert losses[-1].item() == pytest.approx(float(problem.ip_output(last, last)), rel=1e-6)
    for a, b in zip(quiet, loud, strict=True):
        assert CLOSE.admits(a, b)
    optimizer.run(1, 1)
    assert len(optimizer.losses) == 7


def test_variables_keep_their_memory_and_flags():
    """Also under no_grad, and for leaves that ask for gradients."""
    matrix, y = random(9, 4), random(9, seed=1)
    x = random(4, seed=2).requires_grad_()
    place = x.data_ptr()
    with torch.no_grad():
        ConjugateGradient(Linear(matrix, y), x).run(4)
    assert x.data_ptr() == place and x.requires_grad and x.grad is None
    assert CLOSE.admits(x, torch.linalg.lstsq(matrix, y.unsqueeze(1)).solution[:, 0])


def test_parts_without_influence_stay():
    matrix, y = random(9, 4), random(9, seed=1)

    class Half(Linear):
        def __call__(self, x):
            return TensorList([self.matrix @ x[0] - self.y, torch.ones(2, dtype=torch.float64)])

    x = TensorList([torch.zeros(4, dtype=torch.float64), random(3)])
    ConjugateGradient(Half(matrix, y), x).run(6)
    assert CLOSE.admits(x[0], torch.linalg.lstsq(matrix, y.unsqueeze(1)).solution[:, 0])
    assert torch.equal(x[1], random(3))


def test_conjugate_gradient_goes_on_with_the_last_direction():
    matrix, y = random(20, 8), random(20, seed=1)
    x = torch.zeros(8, dtype=torch.float64)
    optimizer = ConjugateGradient(Linear(matrix, y), x, direction_forget_factor=1.0, debug=True)
    for _ in range(4):
        optimizer.run(2)
    # With all of it kept, four runs of two steps are one of eight.
    assert CLOSE.admits(x, torch.linalg.lstsq(matrix, y.unsqueeze(1)).solution[:, 0])
    assert optimizer.residuals.shape == (12,) and optimizer.losses.shape == (8,)
    optimizer.run(0)
    assert optimizer.residuals.shape == (12,)


class Bowl(MinimizationProblem):
    """L(x) = ½ xᵀ H x − bᵀ x + Σ x⁴/4·bend."""

    def __init__(self, n=6, bend=0.0):
        (self.H, self.b), self.bend = system(n), bend

    def __call__(self, x):
        v = x if isinstance(x, torch.Tensor) else torch.cat(list(x))
        return v @ self.H @ v / 2 - self.b @ v + self.bend * v.pow(4).sum() / 4


def test_newton_solves_a_quadratic_at_once():
    problem, x = Bowl(), torch.ones(6, dtype=torch.float64)
    NewtonCG(problem, x).run(6, 1)
    assert CLOSE.admits(x, torch.linalg.solve(problem.H, problem.b))


def test_newton_steps_with_regularisation():
    problem, x = Bowl(bend=0.5), TensorList([torch.ones(2, dtype=torch.float64), torch.ones(4, dtype=torch.float64)])
    optimizer = NewtonCG(problem, x, init_hessian_reg=2.0, hessian_reg_factor=0.25, debug=True)
    losses, _ = optimizer.run([8, 8])
    optimizer.run_newton_iter(8)
    truth, mu = torch.ones(6, dtype=torch.float64), 2.0
    for _ in range(3):
        slope = problem.H @ truth - problem.b + problem.bend * truth**3
        hessian = problem.H + torch.diag(3 * problem.bend * truth**2 + mu)
        truth, mu = truth - torch.linalg.solve(hessian, slope), mu / 4
    assert CLOSE.admits(torch.cat(list(x)), truth) and optimizer.hessian_reg == mu
    assert losses[0].item() == pytest.approx(problem(torch.ones(6, dtype=torch.float64)).item(), rel=1e-6)
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("listed", [False, True])
def test_gradient_descent_by_hand(momentum, listed):
    matrix, y = random(9, 4) / 3, random(9, seed=1)
    x = TensorList([torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)])
    x = x if listed else torch.ones(4, dtype=torch.float64)
    optimizer = GradientDescentL2(Linear(matrix, y), x, 0.1, momentum, debug=True)
    truth, losses, slopes = torch.ones(4, dtype=torch.float64), [], []
    for _ in range(2):
        optimizer.run(3)
        direction = torch.zeros_like(truth)
        for step in range(4):
            r = matrix @ truth - y
            losses.append(float(r @ r))
            slopes.append(float((2 * matrix.T @ r).norm()))
            if step < 3:
                direction = 2 * matrix.T @ r + momentum * direction
                truth = truth - 0.1 * direction
    assert CLOSE.admits(torch.cat(list(x)) if listed else x, truth)
    assert optimizer.losses.tolist() == pytest.approx(losses, rel=1e-6)
    assert optimizer.gradient_mags.tolist() == pytest.approx(slopes, rel=1e-6)


def test_gradient_descent_of_a_loss():
    problem, x = Bowl(), torch.ones(6, dtype=torch.float64)
    GradientDescent(problem, x, 0.1).run(1)
    assert CLOSE.admits(x, 1 - 0.1 * (problem.H @ torch.ones(6, dtype=torch.float64) - problem.b))


class Waits(TorchDispatchMode):
    """Counts the numbers that the host asks the device for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def optimizers(to, **options):
    samples, y, variable = (TensorList(part.to(**to) for part in v) for v in factorized(2, torch.float32))
    problem = Factorized(samples, y)
    bowl = Bowl()
    bowl.H, bowl.b = bowl.H.to(**to), bowl.b.to(**to)
    x = torch.ones(6, dtype=torch.float64).to(**to)
    return [
        lambda: ConjugateGradient(problem, variable, fletcher_reeves=False, standard_alpha=False, **options).run(3),
        lambda: GaussNewtonCG(problem, variable, direction_forget_factor=0.5, **options).run(3, 2),
        lambda: NewtonCG(bowl, x, 0.1, direction_forget_factor=0.5, **options).run(3, 2),
    ]


def test_runs_ask_the_device_for_nothing():
    for run in optimizers({}):
        with Waits() as waits:
            run()
        assert waits.count == 0
    # Tensors without numbers refuse every question.
    for run in optimizers({"device": "meta"}):
        run()
    x = torch.ones(4, device="meta")
    GradientDescentL2(Linear(torch.ones(5, 4, device="meta"), torch.ones(5, device="meta")), x, 0.1, 0.5).run(3)


def test_a_stop_by_residual_asks_once_a_step():
    for run, steps in zip(optimizers({}, cg_eps=1e-30), (3, 6, 6), strict=True):
        with Waits() as waits:
            run()
        assert waits.count == steps
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        optimizers({"device": "meta"}, cg_eps=1e-30)[0]()


class Screen:
    """Stands in for pytracking's Visdom: keeps what it is asked to show."""

    def __init__(self):
        self.shown = []

    def register(self, data, mode, debug_level=0, title="Data"):
        self.shown.append((mode, debug_level, title, len(data)))


def test_curves_are_shown():
    matrix, y = random(9, 4), random(9, seed=1)
    screen = Screen()
    ConjugateGradient(Linear(matrix, y), torch.zeros(4).double(), plotting=True, visdom=screen).run(3)
    assert screen.shown == [("lineplot", 3, "Loss", 2), ("lineplot", 3, "CG residuals", 4)]
    pyplot = pytest.importorskip("matplotlib.pyplot")
    GradientDescentL2(Linear(matrix, y), torch.zeros(4).double(), 0.01, plotting=True, fig_num=(31, 32)).run(3)
    assert [pyplot.figure(k).axes[0].get_title() for k in (31, 32)] == ["Loss", "Gradient magnitude"]
    assert len(pyplot.figure(31).axes[0].lines[0].get_xdata()) == 4
    pyplot.close("all")


def test_messages():
    problem = Linear(random(3, 2), random(3))
    with pytest.raises(DtypeError, match=r"GaussNewtonCG: variable must be a torch\.Tensor or a TensorList of tensors"):
        GaussNewtonCG(problem, [1.0])
    with pytest.raises(
        ArgumentError, match=r"GaussNewtonCG\.run: num_gn_iter must be a number where num_cg_iter is one"
    ):
        GaussNewtonCG(problem, random(2)).run(3)
    with pytest.raises(ArgumentError, match=r"NewtonCG\.run: num_newton_iter must be a number"):
        NewtonCG(Bowl(), random(6)).run(3)
    with pytest.raises(RangeError, match="ConjugateGradient: direction_forget_factor must be ≥ 0, got -1"):
        ConjugateGradient(problem, random(2), direction_forget_factor=-1)
    with pytest.raises(NotImplementedError, match="L2Problem defines no __call__"):
        L2Problem()(random(2))
    with pytest.raises(NotImplementedError, match="ConjugateGradientBase defines no A"):
        solver = ConjugateGradientBase()
        solver.b = random(2)
        solver.run_CG(1)
