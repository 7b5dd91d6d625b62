// Geometry, the real 2-D transform of a tile, and the packing between torch layouts and lanes.
#include "cpu/conv_tiles.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace ft {
namespace FT_ISA {

Geometry make_geometry(const ConvShape& s) {
  Geometry g{};
  const bool rows_first = s.tile_h >= s.tile_w;
  g.rows_first = rows_first;
  g.channels = s.channels;
  g.blocks = (s.channels + FT_LANES - 1) / FT_LANES;
  g.n = rows_first ? s.tile_h : s.tile_w;
  g.m = rows_first ? s.tile_w : s.tile_h;
  g.half = g.n / 2 + 1;
  g.bins = g.half * g.m;
  g.ku = rows_first ? s.kernel_h : s.kernel_w;
  g.kv = rows_first ? s.kernel_w : s.kernel_h;
  g.hu = rows_first ? s.height : s.width;
  g.hv = rows_first ? s.width : s.height;
  g.out_u = g.hu - g.ku + 1;
  g.out_v = g.hv - g.kv + 1;
  g.vu = std::min(g.n - g.ku + 1, g.out_u);
  g.vv = std::min(g.m - g.kv + 1, g.out_v);
  g.tu = (g.out_u + g.vu - 1) / g.vu;
  g.tv = (g.out_v + g.vv - 1) / g.vv;
  g.tiles = g.tu * g.tv;
  g.groups = (g.tiles + FT_LANES - 1) / FT_LANES;
  g.map_u = rows_first ? s.width : 1;
  g.map_v = rows_first ? 1 : s.width;
  g.kernel_u = rows_first ? s.kernel_w : 1;
  g.kernel_v = rows_first ? 1 : s.kernel_w;
  const index out_w = s.width - s.kernel_w + 1;
  g.response_u = rows_first ? out_w : 1;
  g.response_v = rows_first ? 1 : out_w;
  return g;
}

Buffer allocate(index floats) {
  const std::size_t size = (static_cast<std::size_t>(floats) * sizeof(float) + 127) / 64 * 64;
  Buffer p(static_cast<float*>(std::aligned_alloc(64, size)));
  if (!p) throw std::bad_alloc();
  advise_huge_pages(p.get(), floats);
  return p;
}

void advise_huge_pages(float* memory, index floats) {
#if defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t huge = std::uintptr_t{1} << 21;
  const auto start = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (start + huge - 1) / huge * huge;
  const std::uintptr_t last = (start + static_cast<std::uintptr_t>(floats) * sizeof(float)) / huge * huge;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // advice: may be refused
#else
  (void)memory, (void)floats;
#endif
}

TileTransform::TileTransform(const Geometry& g)
    : u_(fft_plan(g.n)),
      v_(fft_plan(g.m)),
      n_(g.n),
      m_(g.m),
      half_(g.half),
      rows_at_once_(std::max<index>(1, 12288 / (g.m * kComplex * static_cast<index>(sizeof(float))))),
      scale_(static_cast<float>(1.0 / (4.0 * static_cast<double>(g.n) * static_cast<double>(g.m)))) {}

void TileTransform::forward_u(const float* real, index column_stride, index rows, index columns, float* half,
                              float* scratch) const {
  const index width = even(columns) * kComplex;
  float* packed = scratch + n_ * kComplex;
  for (index c = 0; c < columns; c += 2) {
    float* source = const_cast<float*>(real) + c * column_stride;
    fft_forward(u_, 1, rows, {source, source + column_stride, FT_LANES, 0, 0}, complex_rows(packed, kComplex, 0),
                scratch);
    float* to = half + c * kComplex;
    for (index k = 0; k < half_; ++k, to += width) {
      const Complex a = load_complex(packed + u_.position[static_cast<std::size_t>(k)] * kComplex);
      const Complex b = load_complex(packed + u_.position[static_cast<std::size_t>(k == 0 ? 0 : n_ - k)] * kComplex);
      store_complex(to, {a.re + b.re, a.im - b.im});
      store_complex(to + kComplex, {a.im + b.im, b.re - a.re});
    }
  }
}

void TileTransform::inverse_u(const float* half, index columns, index rows, float* real, index column_stride,
                              float* scratch) const {
  const index width = even(columns) * kComplex;
  float* packed = scratch + n_ * kComplex;
  for (index c = 0; c < columns; c += 2) {
    const float* from = half + c * kComplex;
    for (index k = 0; k < half_; ++k, from += width) {
      const Complex a = load_complex(from);
      const Complex b = c + 1 < columns ? load_complex(from + kComplex) : Zero{};
      store_complex(packed + u_.position[static_cast<std::size_t>(k)] * kComplex, {a.re - b.im, a.im + b.re});
      if (k == 0 || 2 * k == n_) continue;
      store_complex(packed + u_.position[static_cast<std::size_t>(n_ - k)] * kComplex, {a.re + b.im, b.re - a.im});
    }
    float* target = real + c * column_stride;
    fft_inverse(u_, 1, rows, complex_rows(packed, kComplex, 0), {target, target + column_stride, FT_LANES, 0, 0},
                scratch);
  }
}

void TileTransform::forward_v(const float* half, index columns, index first, index last, float* bins, index stride,
                              float* scratch) const {
  const index width = even(columns) * kComplex;
  float* from = const_cast<float*>(half);
  for (index k = first; k < last; k += rows_at_once_) {
    const index rows = std::min(rows_at_once_, last - k);
    fft_forward(v_, rows, columns, complex_rows(from + k * width, kComplex, width),
                complex_rows(bins + k * m_ * stride, stride, m_ * stride), scratch);
  }
}

void TileTransform::inverse_v(const float* bins, index stride, index columns, float* half, float* scratch) const {
  const index width = even(columns) * kComplex;
  float* from = const_cast<float*>(bins);
  for (index k = 0; k < half_; k += rows_at_once_) {
    const index rows = std::min(rows_at_once_, half_ - k);
    fft_inverse(v_, rows, columns, complex_rows(from + k * m_ * stride, stride, m_ * stride),
                complex_rows(half + k * width, kComplex, width), scratch);
  }
}

void pack_weight(const Geometry& g, const float* weight, float* lanes, bool turned) {
  std::memset(lanes, 0, static_cast<std::size_t>(g.weight_floats()) * sizeof(float));
  const index columns = even(g.kv);
  for (index c = 0; c < g.channels; ++c) {
    float* to = lanes + c / FT_LANES * columns * g.ku * FT_LANES + c % FT_LANES;
    const float* from = weight + c * g.ku * g.kv + (turned ? g.ku * g.kv - 1 : 0);
    const index step_u = turned ? -g.kernel_u : g.kernel_u, step_v = turned ? -g.kernel_v : g.kernel_v;
    for (index v = 0; v < g.kv; ++v) {
      for (index u = 0; u < g.ku; ++u) to[(v * g.ku + u) * FT_LANES] = from[v * step_v + u * step_u];
    }
  }
}

void unpack_weight(const Geometry& g, const float* lanes, float* weight, float scale) {
  const index columns = even(g.kv);
  for (index c = 0; c < g.channels; ++c) {
    const float* from = lanes + c / FT_LANES * columns * g.ku * FT_LANES + c % FT_LANES;
    float* to = weight + c * g.ku * g.kv;
    for (index v = 0; v < g.kv; ++v) {
      for (index u = 0; u < g.ku; ++u) to[v * g.kernel_v + u * g.kernel_u] = scale * from[(v * g.ku + u) * FT_LANES];
    }
  }
}

void pack_tiles(const Geometry& g, const float* map, float* lanes, float fill) {
  std::fill(lanes, lanes + g.tile_lanes_floats(), fill);
  const index columns = even(g.vv);
  for (index t = 0; t < g.tiles; ++t) {
    const index u0 = t % g.tu * g.vu, v0 = t / g.tu * g.vv;
    float* to = lanes + t / FT_LANES * columns * g.vu * FT_LANES + t % FT_LANES;
    for (index v = 0; v < std::min(g.vv, g.out_v - v0); ++v) {
      for (index u = 0; u < std::min(g.vu, g.out_u - u0); ++u) {
        to[(v * g.vu + u) * FT_LANES] = map[(v0 + v) * g.response_v + (u0 + u) * g.response_u];
      }
    }
  }
}

void unpack_tiles(const Geometry& g, const float* lanes, float* map, float scale, float offset) {
  const index columns = even(g.vv);
  for (index t = 0; t < g.tiles; ++t) {
    const index u0 = t % g.tu * g.vu, v0 = t / g.tu * g.vv;
    const float* from = lanes + t / FT_LANES * columns * g.vu * FT_LANES + t % FT_LANES;
    for (index v = 0; v < std::min(g.vv, g.out_v - v0); ++v) {
      for (index u = 0; u < std::min(g.vu, g.out_u - u0); ++u) {
        map[(v0 + v) * g.response_v + (u0 + u) * g.response_u] = scale * from[(v * g.vu + u) * FT_LANES] + offset;
      }
    }
  }
}

}  // namespace FT_ISA
}  // namespace ft
