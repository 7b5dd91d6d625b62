// Transposition of small matrices in registers: between planes of channels and channels-last blocks.
#pragma once

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

#if FT_LANES >= 8
constexpr int64_t kTransposeTile = 8;
typedef float v8 __attribute__((vector_size(32)));

FT_INLINE v8 load8(const float* p) {
  v8 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// dst[c][r] = src[r][c] for 8 × 8: pairs, then quads, then halves change places.
FT_INLINE void transpose_tile(const float* src, int64_t src_row, float* dst, int64_t dst_row) {
  v8 r[8], s[8];
  for (int i = 0; i < 8; ++i) r[i] = load8(src + i * src_row);
  for (int i = 0; i < 8; i += 2) {
    s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = __builtin_shufflevector(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 1] = __builtin_shufflevector(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    r[i + 2] = __builtin_shufflevector(s[i + 1], s[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 3] = __builtin_shufflevector(s[i + 1], s[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; ++i) {
    const v8 low = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    const v8 high = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    std::memcpy(dst + i * dst_row, &low, sizeof low);
    std::memcpy(dst + (i + 4) * dst_row, &high, sizeof high);
  }
}
#else
constexpr int64_t kTransposeTile = 4;

FT_INLINE void transpose_tile(const float* src, int64_t src_row, float* dst, int64_t dst_row) {
  vf r[4];
  for (int i = 0; i < 4; ++i) r[i] = load(src + i * src_row);
  const vf a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const vf c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  store(dst, __builtin_shufflevector(a, c, 0, 1, 4, 5));
  store(dst + dst_row, __builtin_shufflevector(a, c, 2, 3, 6, 7));
  store(dst + 2 * dst_row, __builtin_shufflevector(b, d, 0, 1, 4, 5));
  store(dst + 3 * dst_row, __builtin_shufflevector(b, d, 2, 3, 6, 7));
}
#endif

// dst[c][r] = src[r][c] for rows × columns. The last tile of an axis overlaps the one before it, so that only
// matrices narrower than a tile go element by element.
inline void transpose(const float* src, int64_t src_row, int64_t rows, int64_t columns, float* dst, int64_t dst_row) {
  constexpr int64_t n = kTransposeTile;
  if (rows < n || columns < n) {
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = 0; r < rows; ++r) dst[c * dst_row + r] = src[r * src_row + c];
    return;
  }
  for (int64_t c = 0; c < columns; c += n) {
    const int64_t from_c = c + n <= columns ? c : columns - n;
    for (int64_t r = 0; r < rows; r += n) {
      const int64_t from_r = r + n <= rows ? r : rows - n;
      transpose_tile(src + from_r * src_row + from_c, src_row, dst + from_c * dst_row + from_r, dst_row);
    }
  }
}

}  // namespace FT_ISA
}  // namespace ft
