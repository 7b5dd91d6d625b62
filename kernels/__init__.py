"""Triton kernels and their launchers, installed as ``fasttrack.kernels``.

One file per op stem. The files import torch, triton and the standard library only, and are imported by
``fasttrack.ops`` only, inside functions, so that a machine without triton can import the package.
"""
