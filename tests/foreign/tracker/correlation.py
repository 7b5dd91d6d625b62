import torch
from pytracking import TensorList, complex, dcf, fourier, operation, optimization
from pytracking.features.preprocessing import sample_patch
from pytracking.libs.optimization import ConjugateGradient


class FilterFit(optimization.L2Problem):
    """Scores of all levels against their labels, and the size of the filters."""

    def __init__(self, samples, labels, regularisation):
        self.samples, self.labels, self.regularisation = samples, labels, regularisation

    def __call__(self, filters):
        misses = operation.conv2d(self.samples, filters, mode="same") - self.labels
        return misses.concat(filters * self.regularisation)


class Tracker:
    """A correlation filter on two resolutions, located on a fine grid through the Fourier series of the scores."""

    cells, pixels_per_cell = 25, 2

    def features(self, image):
        size = torch.tensor([float(self.cells)] * 2)
        patch, _ = sample_patch(image, self.pos, size * self.pixels_per_cell, size)
        fine = (patch - patch.mean()) * dcf.hann2d(size)
        coarse = operation.conv2d(fine, torch.full((1, 1, 3, 3), 1 / 9), stride=2, padding=1)
        return TensorList([fine, coarse])

    def initialize(self, image, pos):
        self.pos = torch.tensor(pos)
        samples = self.features(image)
        sizes = [torch.tensor([float(n) for n in x.shape[-2:]]) for x in samples]
        labels = TensorList([dcf.label_function_spatial(sz, sz / 12) for sz in sizes])
        self.filters = TensorList([torch.zeros(1, 1, 5, 5) for _ in samples])
        ConjugateGradient(FilterFit(samples, labels, TensorList([5.0, 3.0])), self.filters).run(120)

    def track(self, image):
        scores = operation.conv2d(self.features(image), self.filters, mode="same")
        series = fourier.cfft2(scores) / TensorList([x.shape[-1] * x.shape[-2] for x in scores])
        blur = TensorList([dcf.label_function(torch.tensor(x.shape[-2:]), (1.0, 1.0)) for x in scores])
        blurred = complex.mult(series, blur)
        # Cell 0 of both levels is moved to their common middle before they are added.
        centred = fourier.shift_fs(blurred, TensorList([(n - 1) / n * torch.pi * torch.ones(2) for n in (25, 13)]))
        grid = self.cells * self.pixels_per_cell
        response = fourier.sample_fs(fourier.sum_fs(centred), (grid, grid))
        peak, place = dcf.max2d(response[0, 0])
        moved = (place + grid // 2) % grid - grid // 2
        self.pos = self.pos + moved
        return self.pos.tolist(), peak.item()
