// Tiles of 8 × 8 and of 4 × 4 bins with the bins of a column in the lanes of a vector of eight.
//
// A strip holds, per group of channels and column of cells, the eight values that fill a vector: of 8 × 8 bins the
// rows p of one channel, of 4 × 4 those of channels c and c + 4. A tile is then Q vectors in registers, and changes
// between them and its rows in memory by one transposition, without an intermediate copy.
#pragma once

#include "cpu/prroi_blocks.h"

namespace ft {
namespace FT_ISA {

// 8 or 4 where bins and channels fit such tiles, else 0.
inline int64_t tile_side(const PrroiRois& r, int64_t channels) {
#if FT_LANES >= 8
  const bool fits = r.bins_y == r.bins_x && (r.bins_x == 8 || r.bins_x == 4) && channels % 8 == 0;
  return fits ? r.bins_x : 0;
#else
  (void)r, (void)channels;
  return 0;
#endif
}

#if FT_LANES >= 8

template <int N>
constexpr int64_t kGroups = kChannels * N / 8;  // per block of channels

// First channel of a group, within its block; the other one of 4 × 4 bins is 4 further.
template <int N>
FT_INLINE int64_t first_channel(int64_t group) {
  return N == 8 ? group : group / 4 * 8 + group % 4;
}

// Groups of the channels that a block has.
template <int N>
FT_INLINE int64_t groups_of(int64_t channels) {
  return channels * N / 8;
}

// Cells and weights of the bins of an axis, copied: stores of vectors may alias a plan, which would be read again
// after each.
template <int N>
struct TileBins {
  int64_t at[N], count[N];  // floats from the begin of a strip or map, cells
  const float* weights[N];

  TileBins(const AxisBins& axis, int64_t k, int64_t begin, int64_t step) {
    for (int q = 0; q < N; ++q) {
      at[q] = (axis.begin(k, q) - begin) * step;
      count[q] = axis.number(k, q);
      weights[q] = axis.weights(k, q);
    }
  }
};

FT_INLINE void add_oct(float* p, float weight, __m256 v) {
  _mm256_storeu_ps(p, _mm256_fmadd_ps(_mm256_set1_ps(weight), v, _mm256_loadu_ps(p)));
}

// Rows of a tile at `out` from its columns.
template <int N, bool Stream>
FT_INLINE void store_tile(const __m256 columns[N], float* out) {
  const auto put = [](float* p, __m256 v) { Stream ? _mm256_stream_ps(p, v) : _mm256_storeu_ps(p, v); };
  __m256 rows[N];  // quads of a row: N = 8, of rows i and i + 4; N = 4, of row i of both channels
  for (int h = 0; h < N; h += 4) transpose_in_quads(columns + h, rows + h);
  constexpr int64_t far = N == 8 ? 32 : 64;
  for (int i = 0; i < 4; i += N == 8 ? 1 : 2) {
    const __m256 a = rows[i], b = rows[N == 8 ? i + 4 : i + 1];
    put(out + i * N, _mm256_permute2f128_ps(a, b, 0x20));
    if (N == 8) put(out + i * N + far, _mm256_permute2f128_ps(a, b, 0x31));
  }
  if (N == 8) return;
  for (int i = 0; i < 4; i += 2) put(out + i * N + far, _mm256_permute2f128_ps(rows[i], rows[i + 1], 0x31));
}

// Columns of a tile from its rows at `tile`.
template <int N>
FT_INLINE void load_tile_columns(const float* tile, __m256 columns[N]) {
  for (int h = 0; h < N; h += 4) transpose_strip(tile + h, N, N == 8 ? 32 : 64, columns + h);
}

// The rows p of a column of cells, pooled in y for a run that begins with RoI k, as strips of a block of channels.
template <int N>
void pool_strips(const FeatureBlocks& f, const Plan& plan, int64_t k, int64_t block, int64_t channels,
                 const Span& columns, float* strips) {
  const int64_t n = plan.roi[k].image, strip = columns.size() * 8;
  float pooled[N * kChannels];
  for (int64_t j = columns.begin; j < columns.end; ++j, strips += 8) {
    for (int64_t p = 0; p < N; ++p)
      weighted_sum(plan.y.weights(k, p), f.at(n, block, plan.y.begin(k, p), j), f.row(n), plan.y.number(k, p))
          .to(pooled + p * kChannels);
    for (int64_t c = 0; c < channels; c += 8) {
      float* out = strips + groups_of<N>(c) * strip;
      for (int h = 0; h < N; h += 4, out += 4 * strip) {
        __m256 lanes[4];
        transpose_strip(pooled + c + h, kChannels, N == 8 ? 4 * kChannels : 4, lanes);
        for (int i = 0; i < 4; ++i) _mm256_storeu_ps(out + i * strip, lanes[i]);
      }
    }
  }
}

// Values of RoI k from the strips of its run, into its tiles of these channels at `out`.
template <int N, bool Stream>
void pool_tiles(const Plan& plan, int64_t k, int64_t channels, const Span& columns, const float* strips, float* out) {
  const TileBins<N> x(plan.x, k, columns.begin, 8);
  const int64_t strip = columns.size() * 8;
  for (int64_t g = 0; g < groups_of<N>(channels); ++g, strips += strip) {
    __m256 tile[N];
#pragma GCC unroll 8
    for (int q = 0; q < N; ++q) {
      const float *cell = strips + x.at[q], *w = x.weights[q];
      if (x.count[q] == 3) {
        const __m256 first = _mm256_mul_ps(_mm256_broadcast_ss(w), _mm256_loadu_ps(cell));
        const __m256 second = _mm256_fmadd_ps(_mm256_broadcast_ss(w + 1), _mm256_loadu_ps(cell + 8), first);
        tile[q] = _mm256_fmadd_ps(_mm256_broadcast_ss(w + 2), _mm256_loadu_ps(cell + 16), second);
        continue;
      }
      tile[q] = _mm256_setzero_ps();
      for (int64_t t = 0; t < x.count[q]; ++t)
        tile[q] = _mm256_fmadd_ps(_mm256_broadcast_ss(w + t), _mm256_loadu_ps(cell + 8 * t), tile[q]);
    }
    store_tile<N, Stream>(tile, out + first_channel<N>(g) * N * N);
  }
}

// strips += the tiles of RoI k at `grad`, spread over its columns; `next` is read into the caches meanwhile.
template <int N>
void spread_tiles(const Plan& plan, int64_t k, int64_t channels, const Span& columns, const float* grad,
                  const float* next, float* strips) {
  const TileBins<N> x(plan.x, k, columns.begin, 8);
  const int64_t strip = columns.size() * 8;
  for (int64_t g = 0; g < groups_of<N>(channels); ++g, strips += strip) {
    __m256 tile[N];
    load_tile_columns<N>(grad + first_channel<N>(g) * N * N, tile);
    for (int i = 0; i < 8 * N; i += 16) __builtin_prefetch(next + g * 8 * N + i);
#pragma GCC unroll 8
    for (int q = 0; q < N; ++q) {
      float* cell = strips + x.at[q];
      const float* w = x.weights[q];
      if (x.count[q] == 3) {
        for (int t = 0; t < 3; ++t) add_oct(cell + 8 * t, w[t], tile[q]);
        continue;
      }
      for (int64_t t = 0; t < x.count[q]; ++t) add_oct(cell + 8 * t, w[t], tile[q]);
    }
  }
}

// map[c][i][j] += Σ_p wy[p, i]·strips of a run that begins with RoI k. Strips and map go by whole eights of columns:
// both ends of `columns` are multiples of 8, rows of the map are `row` floats apart.
template <int N>
void spread_strips(const Plan& plan, int64_t k, int64_t channels, const Span& columns, const float* strips, int64_t row,
                   float* map) {
  const TileBins<N> y(plan.y, k, 0, row);
  const int64_t channel = plan.y.size * row, length = columns.size();
  for (int64_t g = 0; g < groups_of<N>(channels); ++g) {
    float* const first = map + first_channel<N>(g) * channel + columns.begin;
    for (int64_t j = 0; j < length; j += 8, strips += 64) {
      __m256 lanes[8];
      transpose_strip(strips, 8, 32, lanes);
      transpose_strip(strips + 4, 8, 32, lanes + 4);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        const int p = i % N;
        float* at = first + j + y.at[p] + i / N * 4 * channel;
        for (int64_t t = 0; t < y.count[p]; ++t, at += row) add_oct(at, y.weights[p][t], lanes[i]);
      }
    }
  }
}

#endif

}  // namespace FT_ISA
}  // namespace ft
