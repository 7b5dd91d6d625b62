"""Writing a module as an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fasttrack.errors import TransformError
from fasttrack.onnx.formulas import FORMULAS

__all__ = ["export", "translated"]

_NAMESPACE = "fasttrack"


def translated() -> tuple[str, ...]:
    """Names of the registered ops (``torch.ops.fasttrack.<name>``) that have a formula in ONNX."""
    return tuple(sorted(FORMULAS))


def export(
    module: nn.Module,
    args: Sequence[Any],
    path: str | Path | None = None,
    *,
    dynamic_shapes: dict[str, Any] | tuple[Any, ...] | list[Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset: int = 18,
) -> Any:
    """Write a module as ONNX, the ops in it as plain ONNX operators.

    RoI pooling becomes two matrix products per RoI, out = Wy · F · Wxᵀ, with the weights Wy and Wx computed from the
    RoIs inside the file, so that their number may change from call to call, to 0 too; the large convolution becomes
    Conv, normalisation and pooling what they are made of. No operator of ours is left: any runtime will do. Formulas
    run in float32, also coordinates (float64 in the package): results agree to about 1e-5, relative to the largest.
    A RoI that names no image gives NaN, for a file cannot raise.

    Args:
        module: in eval mode; e.g. one of ``fasttrack.nn``, ``Backbone.module()``, ``models.RidgeResponse``.
        args: example inputs, tensors.
        path: the file to write; None writes none.
        dynamic_shapes: axes that may change, as ``torch.export.export`` takes them, e.g.
            ``{"rois": {0: torch.export.Dim("k")}}``.
        input_names: of the file.
        output_names: of the file.
        opset: version of ONNX's operators.

    Returns:
        The ``torch.onnx.ONNXProgram``: ``model_proto``, ``save``, and a call that runs it in onnxruntime.

    Raises:
        TransformError: an op without a formula is in the module; onnx or onnxscript is not installed.
    """
    _need_writers()
    exported = torch.export.export(module, tuple(args), dynamic_shapes=dynamic_shapes)
    table = {_overload(name): formula for name, formula in FORMULAS.items()}
    plain = exported.run_decompositions({**torch.export.default_decompositions(), **table})
    for node in plain.graph.nodes:
        if node.op == "call_function" and getattr(node.target, "namespace", "") == _NAMESPACE:
            known = ", ".join(translated())
            why, hint = "it has no formula in plain operators", f"leave it outside the exported module (known: {known})"
            raise TransformError(node.target.name().removeprefix("fasttrack::"), "ONNX export", why, hint)
    program = torch.onnx.export(
        plain,
        dynamo=True,
        input_names=None if input_names is None else list(input_names),
        output_names=None if output_names is None else list(output_names),
        opset_version=opset,
        verbose=False,
    )
    assert program is not None
    if path is not None:
        program.save(str(path))
    return program


def _overload(name: str) -> Any:
    return getattr(getattr(torch.ops, _NAMESPACE), name).default


def _need_writers() -> None:
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        hint = "pip install 'fasttrack[onnx]'"
        raise TransformError("export", "ONNX export", f"{error.name} is not installed", hint) from error
    del onnx, onnxscript
