// The two multiply-accumulate sweeps over the spectra: what an iteration spends its memory traffic on.
#include <cstring>

#include "cpu/conv_tiles.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int kTilesAtOnce = 4;   // accumulators: 2 per tile
constexpr int kBlocksAtOnce = 4;  // accumulators: 2 per block of channels

typedef float quad __attribute__((vector_size(16)));

FT_INLINE quad fold(vf v) {
#if FT_LANES == 4
  return v;
#elif FT_LANES == 8
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  return (__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7)) +
         (__builtin_shufflevector(v, v, 8, 9, 10, 11) + __builtin_shufflevector(v, v, 12, 13, 14, 15));
#endif
}

// The sums of four vectors, in order.
FT_INLINE quad sums(const vf* v) {
  const quad a = fold(v[0]), b = fold(v[1]), c = fold(v[2]), d = fold(v[3]);
  const quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// Both sweeps ask for their cache lines `ahead` of use: four rows side by side, and bins from last to first,
// are no streams that the hardware follows (15-25 % of an iteration).

// One bin, Count tiles: sum over channels of X conj(W).
template <int Count>
FT_INLINE void correlate_tiles(const float* x, const float* w, index blocks, index ahead, float* out) {
  vf re[kTilesAtOnce] = {}, im[kTilesAtOnce] = {};
  for (index b = 0; b < blocks; ++b) {
    const vf wr = load(w + b * kComplex), wi = load(w + b * kComplex + FT_LANES);
    for (int t = 0; t < Count; ++t) {
      const float* at = x + (t * blocks + b) * kComplex;
      __builtin_prefetch(at + ahead);
      const vf xr = load(at), xi = load(at + FT_LANES);
      re[t] += xr * wr;
      im[t] += xi * wr;
      re[t] += xi * wi;
      im[t] -= xr * wi;
    }
  }
  const quad real = sums(re), imag = sums(im);
  std::memcpy(out, &real, sizeof real);
  std::memcpy(out + FT_LANES, &imag, sizeof imag);
}

// One bin, Count blocks of channels: sum over tiles of X conj(E).
template <int Count>
FT_INLINE void accumulate_blocks(const float* x, index x_step, const float* e, index e_step, index tiles, bool add,
                                 index ahead, float* out) {
  vf re[Count] = {}, im[Count] = {};
  if (add) {
    for (int b = 0; b < Count; ++b) re[b] = load(out + b * kComplex), im[b] = load(out + b * kComplex + FT_LANES);
  }
  for (index first = 0; first < tiles; first += FT_LANES, e += e_step) {
    const index last = std::min<index>(first + FT_LANES, tiles);
    for (index t = first; t < last; ++t) {
      const float er = e[t - first], ei = e[t - first + FT_LANES];
      const float* at = x + t * x_step;
      for (int b = 0; b < Count; ++b) {
        __builtin_prefetch(at + b * kComplex + ahead);
        const vf xr = load(at + b * kComplex), xi = load(at + b * kComplex + FT_LANES);
        re[b] += xr * er;
        im[b] += xi * er;
        re[b] += xi * ei;
        im[b] -= xr * ei;
      }
    }
  }
  for (int b = 0; b < Count; ++b) store(out + b * kComplex, re[b]), store(out + b * kComplex + FT_LANES, im[b]);
}

}  // namespace

void correlate(const Geometry& g, const float* spectra, const float* weight_spectra, float* product, Share bins) {
  const index row = g.blocks * kComplex, ahead = 2 * kTilesAtOnce * row;
  for (index f = bins.first; f < bins.last; ++f) {
    const float* w = weight_spectra + f * row;
    for (index t = 0; t < g.groups * FT_LANES; t += kTilesAtOnce) {
      const float* x = spectra + (f * g.tiles + t) * row;
      float* out = product + (t / FT_LANES * g.bins + f) * kComplex + t % FT_LANES;
      switch (std::min<index>(g.tiles - t, kTilesAtOnce)) {
        case 4:
          correlate_tiles<4>(x, w, g.blocks, ahead, out);
          break;
        case 3:
          correlate_tiles<3>(x, w, g.blocks, ahead, out);
          break;
        case 2:
          correlate_tiles<2>(x, w, g.blocks, ahead, out);
          break;
        case 1:
          correlate_tiles<1>(x, w, g.blocks, ahead, out);
          break;
        default:
          correlate_tiles<0>(x, w, 0, 0, out);
          break;
      }
    }
  }
}

void accumulate(const Geometry& g, const float* spectra, const float* error, float* gradient, bool add, Share bins) {
  const index row = g.blocks * kComplex, step = g.bins * kComplex, ahead = -g.tiles * row;
  for (index f = bins.last; f-- > bins.first;) {  // backwards: the last spectra read are still in cache
    const float* x = spectra + f * g.tiles * row;
    const float* e = error + f * kComplex;
    float* out = gradient + f * row;
    for (index b = 0; b < g.blocks; b += kBlocksAtOnce) {
      const index at = b * kComplex;
      switch (std::min<index>(g.blocks - b, kBlocksAtOnce)) {
        case 4:
          accumulate_blocks<4>(x + at, row, e, step, g.tiles, add, ahead, out + at);
          break;
        case 3:
          accumulate_blocks<3>(x + at, row, e, step, g.tiles, add, ahead, out + at);
          break;
        case 2:
          accumulate_blocks<2>(x + at, row, e, step, g.tiles, add, ahead, out + at);
          break;
        default:
          accumulate_blocks<1>(x + at, row, e, step, g.tiles, add, ahead, out + at);
          break;
      }
    }
  }
}

}  // namespace FT_ISA
}  // namespace ft
