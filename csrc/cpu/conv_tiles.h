// Overlap-save geometry and the real 2-D transform of one block of lanes, shared by the conv_regression files.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "conv_regression.h"
#include "cpu/fft.h"

namespace ft {
namespace FT_ISA {

using index = std::ptrdiff_t;

// Axis u is transformed first (real input, half a spectrum kept), axis v second. u is the longer side of
// the tile: the second transform, which runs on n / 2 + 1 rows, is then the short one.
inline index even(index count) { return count + count % 2; }

struct Geometry {
  bool rows_first;           // u runs along rows (y), v along columns (x); else the other way round
  index channels, blocks;    // blocks of FT_LANES channels
  index n, m;                // tile along u, v
  index half, bins;          // n / 2 + 1 rows of m frequencies
  index ku, kv, hu, hv;      // kernel and map along u, v
  index out_u, out_v;        // response along u, v
  index vu, vv;              // response positions one tile yields
  index tu, tv, tiles;       // tiles along u, v
  index groups;              // groups of FT_LANES tiles
  index map_u, map_v;        // strides of the map (C, H, W) along u, v
  index kernel_u, kernel_v;  // strides of the kernel (C, kh, kw) along u, v
  index response_u, response_v;

  index spectra_floats() const { return bins * tiles * blocks * kComplex; }
  index weight_floats() const { return blocks * even(kv) * ku * FT_LANES; }
  index tile_lanes_floats() const { return groups * even(vv) * vu * FT_LANES; }
  index product_floats() const { return groups * bins * kComplex; }
  index weight_spectra_floats() const { return bins * blocks * kComplex; }
};

Geometry make_geometry(const ConvShape& shape);

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float[], Free>;
Buffer allocate(index floats);  // 64-byte aligned
// Asks for huge pages before memory is first touched: a sweep over spectra crosses a page every 64 vectors.
void advise_huge_pages(float* memory, index floats);

// The real transform of n x m (u fastest) with FT_LANES signals side by side. Columns come in pairs, two
// real columns in one complex one: an odd count has one more column, of zeros on the way in and of no
// meaning on the way out. Unscaled; `scale` sets right a product of two forwards and one inverse.
class TileTransform {
 public:
  explicit TileTransform(const Geometry& g);

  index scratch_floats() const { return std::max(2 * n_, rows_at_once_ * m_) * kComplex; }
  index half_floats(index columns) const { return half_ * even(columns) * kComplex; }
  index half() const { return half_; }
  index rows_at_once() const { return rows_at_once_; }

  // real (columns x rows, u fastest, nonzero part only) -> half (half x columns)
  void forward_u(const float* real, index column_stride, index rows, index columns, float* half, float* scratch) const;
  // half -> bins `first`..`last`-1 of u, element stride in floats
  void forward_v(const float* half, index columns, index first, index last, float* bins, index stride,
                 float* scratch) const;
  void inverse_v(const float* bins, index stride, index columns, float* half, float* scratch) const;
  void inverse_u(const float* half, index columns, index rows, float* real, index column_stride, float* scratch) const;

  float scale() const { return scale_; }

 private:
  const FftPlan& u_;
  const FftPlan& v_;
  index n_, m_, half_;
  index rows_at_once_;  // rows of the second transform that share one pass: their scratch stays in L1
  float scale_;
};

// The contiguous share of 0..count-1 of one of `threads` threads.
struct Share {
  index first, last;
};
inline Share share(index count, int thread, int threads) {
  return {count * thread / threads, count * (thread + 1) / threads};
}

// weight (C, kh, kw) <-> lanes (blocks, even(kv), ku, FT_LANES); padding channels are zero.
// `turned` reads the kernel back to front along both axes.
void pack_weight(const Geometry& g, const float* weight, float* lanes, bool turned);
void unpack_weight(const Geometry& g, const float* lanes, float* weight, float scale);

// Response-shaped maps <-> lanes over tiles: (groups, even(vv), vu, FT_LANES); `fill` outside the map.
void pack_tiles(const Geometry& g, const float* map, float* lanes, float fill);
void unpack_tiles(const Geometry& g, const float* lanes, float* map, float scale, float offset);

// Bins first..last-1: product[group][bin] (lanes = tiles) = sum over channels of X conj(W).
void correlate(const Geometry& g, const float* spectra, const float* weight_spectra, float* product, Share bins);
// Bins first..last-1: gradient[bin][block] (+)= sum over tiles of X conj(E), E as `correlate` lays it out.
void accumulate(const Geometry& g, const float* spectra, const float* error, float* gradient, bool add, Share bins);

}  // namespace FT_ISA
}  // namespace ft
