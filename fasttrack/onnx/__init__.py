"""ONNX files of modules that call the ops: an op is written as the plain operators of its formula.

``pip install 'fasttrack[onnx]'`` brings what writes them.
"""

from fasttrack.onnx.export import export, translated

__all__ = ["export", "translated"]
