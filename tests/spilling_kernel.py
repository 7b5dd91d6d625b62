"""Compiles a kernel that holds more values than one warp has registers, and prints its resources."""

import json

import triton
import triton.language as tl

from fasttrack.kernels._aot import Build, resources


@triton.jit
def greedy(x, out, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    tile = tl.load(x + rows * COLUMNS + columns)
    # Two sorts along different axes keep the whole tile alive at once.
    tl.store(out + rows * COLUMNS + columns, tl.cumsum(tile, 0) * tl.cumsum(tile, 1) + tile)


build = Build(greedy, {"x": "*fp32", "out": "*fp32"}, {"ROWS": 128, "COLUMNS": 256}, num_warps=1)
print(json.dumps(vars(resources(build, 90))))
