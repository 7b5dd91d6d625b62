"""The spectra of a feature map, kept for many responses and for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack import dispatch, native
from fasttrack.errors import RangeError, ShapeError
from fasttrack.ops import _checks as check
from fasttrack.ops._rows import cpu_row, on_gpu, reference_row, triton_row
from fasttrack.ops._transforms import refuse_inside
from fasttrack.ops.conv_regression import aligned, check_kernel, check_reduction, composed, conv_regression, tile_of
from fasttrack.spec._conv_fusion import Fusion

__all__ = ["FLOATS", "FeatureSpectra", "check_weight"]

FLOATS = (torch.float32, torch.float64)

_OP = "feature_spectra"


class FeatureSpectra:
    """A feature map made ready for one kernel size: the spectra of its tiles.

    Computed once, it answers any number of ``response`` calls and can be handed to a
    ``ConvRegressionProblem`` of the same kernel size. The spectra of its tiles, which overlap, take up to 2.5 times
    the memory of the map, for as long as the object lives.

    Args:
        features: (C, H, W) float32 or float64; kept, and not to be changed afterwards.
        kernel_size: (kh, kw) of the weights to come.

    Raises:
        ShapeError, DtypeError: naming the argument, what was wanted and what came.
    """

    def __init__(self, features: Tensor, kernel_size: tuple[int, int]) -> None:
        check.tensor("FeatureSpectra", "features", features, dims=(3,), dtypes=FLOATS, layout="(C, H, W)")
        refuse_inside("FeatureSpectra", "call conv_regression, which is a function of its tensors")
        self.features = features.detach().contiguous()
        self.kernel_size = (int(kernel_size[0]), int(kernel_size[1]))
        kernel_like = features.new_empty((features.shape[0], *self.kernel_size))
        check_kernel("FeatureSpectra", features, kernel_like)
        self.why_not = _why_not_compiled(features)
        self.tile = (0, 0)
        self._spectra: Tensor | None = None
        self._of_kernels: tuple[Any, Tensor] | None = None  # tiling and spectra for the Triton kernels
        if self.why_not is None:
            self.retile(tile_of(*self.features.shape, *self.kernel_size))
        elif native.triton_why_not() is None and on_gpu(features, "features") is None:
            self.spectra_for(None)

    @property
    def response_size(self) -> tuple[int, int]:
        """(H − kh + 1, W − kw + 1)."""
        height, width = self.features.shape[1:]
        return height - self.kernel_size[0] + 1, width - self.kernel_size[1] + 1

    def shape(self) -> list[int]:
        """Channels, height, width, kernel and tile, as the kernels take them."""
        return [*self.features.shape, *self.kernel_size, *self.tile]

    def retile(self, tile: tuple[int, int]) -> None:
        """Compute the spectra with this tile, unless they are there already."""
        if self.tile == tile:
            return
        self.tile = tile
        lib = native.lib()
        self._spectra = aligned(lib.conv_spectra_size(self.shape()))
        lib.conv_spectra(self.shape(), self.features.data_ptr(), self._spectra.data_ptr())

    def address(self) -> int:
        """Where the spectra lie, for the kernels."""
        assert self._spectra is not None
        return self._spectra.data_ptr()

    def spectra_for(self, tiling: Any | None) -> tuple[Any, Tensor]:
        """Tiling and spectra of the Triton kernels: those there are, or computed with this tiling."""
        if self._of_kernels is None or (tiling is not None and tiling != self._of_kernels[0]):
            from fasttrack.kernels import _conv_tiles as tiles

            if tiling is None:
                channels, height, width = self.features.shape
                tiling = tiles.run_tiling(channels, height, width, *self.kernel_size)
            self._of_kernels = tiling, tiles.spectra_of(self.features[None], tiling)
        return self._of_kernels

    def response(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        reduction: Tensor | None = None,
        *,
        fusion: Fusion | None = None,
        backend: str | None = None,
    ) -> Tensor:
        """``conv_regression`` of this map: (H − kh + 1, W − kw + 1), without gradients.

        Args:
            weight: (D, kh, kw), D = C without a reduction; (R, D, kh, kw) with a fusion.
            bias: (1,) or None.
            reduction: (D, C) or None.
            fusion: how several maps and regressors are mixed; None: there is one of each.
            backend: explicit backend; None chooses.

        Raises:
            ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.
        """
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        check_weight("FeatureSpectra.response", weight, bias, self, reduction, fusion)
        if reduction is not None:
            weight = _kernel(weight, reduction.detach(), fusion)
        b = None if bias is None else bias.contiguous()
        response: Tensor = dispatch.choose(_OP, (self,), backend).run(self, weight.contiguous(), b)
        return response


def check_weight(
    op: str,
    weight: Tensor,
    bias: Tensor | None,
    frame: FeatureSpectra,
    reduction: Tensor | None = None,
    fusion: Fusion | None = None,
) -> None:
    """``weight`` (D, kh, kw), ``bias`` (1,) and ``reduction`` (D, C) must suit a stored map (C, H, W).

    With a ``fusion``, which needs a reduction, the weight is (R, D, kh, kw).
    """
    channels = frame.features.shape[0]
    if fusion is not None:
        _check_fusion(op, weight, frame, reduction, fusion)
        weight = weight[0]
    check.tensor(op, "weight", weight, dims=(3,), layout="(C, kh, kw)")
    if reduction is not None:
        check.tensor(op, "reduction", reduction, dims=(2,), layout="(D, C)")
        check_reduction(op, reduction, weight, channels)
        channels = reduction.shape[0]
    wanted = (channels, *frame.kernel_size)
    if tuple(weight.shape) != wanted:
        check.shape_error(op, "weight", str(wanted), weight)
    if bias is not None:
        check.tensor(op, "bias", bias)
        if bias.shape != (1,):
            check.shape_error(op, "bias", "(1,)", bias)
    for name, value in (("weight", weight), ("bias", bias), ("reduction", reduction)):
        if value is not None:
            check.same_dtype(op, name, value, "features", frame.features)
            check.same_device(op, name, value, "features", frame.features)


def _check_fusion(op: str, weight: Tensor, frame: FeatureSpectra, reduction: Tensor | None, fusion: Fusion) -> None:
    if reduction is None:
        raise RangeError(op, "reduction", "(D, C) with a fusion", "None")
    channels = frame.features.shape[0]
    if sum(fusion.channels) != channels:
        wanted = f"of maps of {channels} channels together, those of features"
        raise ShapeError(op, "fusion", wanted, repr(fusion.channels))
    check.tensor(op, "weight", weight, dims=(4,), layout="(R, D, kh, kw)")
    if len(weight) != fusion.regressors:
        check.shape_error(op, "weight", f"({fusion.regressors}, D, kh, kw), one per regressor", weight)


def _kernel(weight: Tensor, reduction: Tensor, fusion: Fusion | None) -> Tensor:
    """The kernel on the map itself."""
    if fusion is None:
        return composed(weight, reduction)
    parts = zip(fusion.mixed(weight), reduction.split(fusion.channels, 1), strict=True)
    return torch.cat([composed(v, matrix) for v, matrix in parts])


def _response_triton(frame: FeatureSpectra, weight: Tensor, bias: Tensor | None) -> Tensor:
    from fasttrack.kernels import conv_regression as kernels

    tiling, spectra = frame.spectra_for(None)
    height, width = frame.features.shape[1:]
    return kernels.response(spectra, tiling, height, width, weight, bias)[0]


def _response_cpu(frame: FeatureSpectra, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = torch.empty(frame.response_size)
    address = 0 if bias is None else bias.data_ptr()
    native.lib().conv_response(frame.shape(), frame.address(), weight.data_ptr(), address, out.data_ptr())
    return out


def _response_reference(frame: FeatureSpectra, weight: Tensor, bias: Tensor | None) -> Tensor:
    return conv_regression(frame.features, weight, bias, backend="reference")


def _why_not_compiled(features: Tensor) -> str | None:
    if features.device.type != "cpu":
        return f"needs CPU tensors, got features on {features.device}"
    if features.dtype != torch.float32:
        return f"computes in float32, got {features.dtype}"
    return native.why_not()


dispatch.register(
    _OP,
    (
        triton_row(lambda frame, *_: on_gpu(frame.features, "features"), _response_triton),
        cpu_row(lambda frame, *_: frame.why_not, _response_cpu),
        reference_row(_response_reference),
    ),
)
