// Transposition of a matrix of any size, tile by tile: between planes of channels and channels-last blocks.
#pragma once

#include "cpu/transpose.h"

#if FT_LANES >= 8
#include <immintrin.h>
#endif

namespace ft {
namespace FT_ISA {

// The 4 × 4 tile of matrices narrower than a whole vector.
FT_INLINE void transpose_quads(const float* in, int64_t in_row, float* out, int64_t out_row) {
  const quad a = load_quad(in), b = load_quad(in + in_row), c = load_quad(in + 2 * in_row);
  const quad d = load_quad(in + 3 * in_row);
  const quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const quad rows[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                        __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5), __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(out + i * out_row, &rows[i], sizeof rows[i]);
}

// out[c][r] = in[r][c] for rows × columns. The last tile of an axis overlaps the one before it, so that only
// matrices narrower than a tile go element by element.
inline void transpose_matrix(const float* in, int64_t in_row, int64_t rows, int64_t columns, float* out,
                             int64_t out_row) {
  const int64_t narrow = rows < columns ? rows : columns;
  const int64_t n = narrow >= FT_LANES ? FT_LANES : (narrow >= 4 ? 4 : 1);
  for (int64_t c = 0; c < columns; c += n) {
    const int64_t from_c = c + n <= columns ? c : columns - n;
    for (int64_t r = 0; r < rows; r += n) {
      const int64_t from_r = r + n <= rows ? r : rows - n;
      const float* src = in + from_r * in_row + from_c;
      float* dst = out + from_c * out_row + from_r;
      if (n == FT_LANES)
        transpose(src, in_row, dst, out_row);
      else if (n == 4)
        transpose_quads(src, in_row, dst, out_row);
      else
        *dst = *src;
    }
  }
}

// Whether an output of `floats`, written in pieces of rows × columns, can go past the caches: it is too large to be
// found in them later, and its rows are whole lines.
inline bool can_stream(const float* out, int64_t floats, int64_t rows, int64_t columns) {
#if FT_LANES >= 8
  constexpr int64_t kLarge = int64_t{1} << 21;  // 8 MB
  return floats >= kLarge && rows % 16 == 0 && columns % 4 == 0 && reinterpret_cast<uintptr_t>(out) % 64 == 0;
#else
  (void)out, (void)floats, (void)rows, (void)columns;
  return false;
#endif
}

#if FT_LANES >= 8
// 4 × 4 transposition within the quads of four vectors.
FT_INLINE void transpose_in_quads(const __m256 in[4], __m256 out[4]) {
  const __m256 low = _mm256_unpacklo_ps(in[0], in[1]), high = _mm256_unpackhi_ps(in[0], in[1]);
  const __m256 low2 = _mm256_unpacklo_ps(in[2], in[3]), high2 = _mm256_unpackhi_ps(in[2], in[3]);
  out[0] = _mm256_shuffle_ps(low, low2, 0x44);
  out[1] = _mm256_shuffle_ps(low, low2, 0xEE);
  out[2] = _mm256_shuffle_ps(high, high2, 0x44);
  out[3] = _mm256_shuffle_ps(high, high2, 0xEE);
}

// Four columns as four vectors of eight: of rows r … r + 3, then of the four rows at `far`.
FT_INLINE void transpose_strip(const float* in, int64_t in_row, int64_t far, __m256 out[4]) {
  __m256 a[4];
  for (int i = 0; i < 4; ++i) {
    const float* near = in + i * in_row;
    a[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(near)), _mm_loadu_ps(near + far), 1);
  }
  transpose_in_quads(a, out);
}

// transpose_matrix where `can_stream` was granted: each line of 64 bytes is written in one go, past the caches and
// without being read first. stream_end() must follow before another thread reads.
inline void stream_transposed(const float* in, int64_t in_row, int64_t rows, int64_t columns, float* out,
                              int64_t out_row) {
  for (int64_t c = 0; c < columns; c += 4) {
    for (int64_t r = 0; r < rows; r += 16) {
      __m256 left[4], right[4];
      transpose_strip(in + r * in_row + c, in_row, 4 * in_row, left);
      transpose_strip(in + (r + 8) * in_row + c, in_row, 4 * in_row, right);
      for (int i = 0; i < 4; ++i) {
        float* line = out + (c + i) * out_row + r;
        _mm256_stream_ps(line, left[i]);
        _mm256_stream_ps(line + 8, right[i]);
      }
    }
  }
}
FT_INLINE void stream_end() { _mm_sfence(); }
#else
inline void stream_transposed(const float* in, int64_t in_row, int64_t rows, int64_t columns, float* out,
                              int64_t out_row) {
  transpose_matrix(in, in_row, rows, columns, out, out_row);
}
FT_INLINE void stream_end() {}
#endif

}  // namespace FT_ISA
}  // namespace ft
