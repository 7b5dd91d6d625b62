// FT_LANES x FT_LANES transposition in registers.
#pragma once

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

typedef float quad __attribute__((vector_size(16)));

FT_INLINE quad load_quad(const float* p) {
  quad v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

#if FT_LANES == 4
FT_INLINE vf join_quads(const float* p, std::ptrdiff_t) { return load_quad(p); }
#define FT_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define FT_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define FT_LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 4, 5)
#define FT_HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 6, 7)
#elif FT_LANES == 8
// Four floats at p and four at p + far.
FT_INLINE vf join_quads(const float* p, std::ptrdiff_t far) {
  return __builtin_shufflevector(load_quad(p), load_quad(p + far), 0, 1, 2, 3, 4, 5, 6, 7);
}
#define FT_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define FT_HIGH(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define FT_LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define FT_HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#else
FT_INLINE vf join_quads(const float* p, std::ptrdiff_t far) {
  const auto low = __builtin_shufflevector(load_quad(p), load_quad(p + far), 0, 1, 2, 3, 4, 5, 6, 7);
  const auto high = __builtin_shufflevector(load_quad(p + 2 * far), load_quad(p + 3 * far), 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
#define FT_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define FT_HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define FT_LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define FT_HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#endif

// Row r of the input is FT_LANES floats at in + r * in_row; of the output, at out + r * out_row.
FT_INLINE void transpose(const float* in, std::ptrdiff_t in_row, float* out, std::ptrdiff_t out_row) {
  for (int q = 0; q < FT_LANES; q += 4) {
    // Rows 0..3 of every quarter side by side: what is left is a 4 x 4 transposition within quads.
    const vf a = join_quads(in + q, 4 * in_row), b = join_quads(in + q + in_row, 4 * in_row);
    const vf c = join_quads(in + q + 2 * in_row, 4 * in_row), d = join_quads(in + q + 3 * in_row, 4 * in_row);
    const vf ab_low = FT_LOW(a, b), ab_high = FT_HIGH(a, b), cd_low = FT_LOW(c, d), cd_high = FT_HIGH(c, d);
    store(out + q * out_row, FT_LOW2(ab_low, cd_low));
    store(out + (q + 1) * out_row, FT_HIGH2(ab_low, cd_low));
    store(out + (q + 2) * out_row, FT_LOW2(ab_high, cd_high));
    store(out + (q + 3) * out_row, FT_HIGH2(ab_high, cd_high));
  }
}

// The same of rows in registers.
#if FT_LANES == 16
FT_INLINE void transpose(const vf (&rows)[FT_LANES], float* out, std::ptrdiff_t out_row) {
  alignas(64) float tile[FT_LANES * FT_LANES];
  for (int i = 0; i < FT_LANES; ++i) store(tile + i * FT_LANES, rows[i]);
  transpose(tile, FT_LANES, out, out_row);
}
#else
FT_INLINE void transpose(const vf (&rows)[FT_LANES], float* out, std::ptrdiff_t out_row) {
  vf quads[FT_LANES];  // 4 x 4 transposed within quads: of the upper rows, then of the lower ones
  for (int i = 0; i < FT_LANES; i += 4) {
    const vf ab_low = FT_LOW(rows[i], rows[i + 1]), ab_high = FT_HIGH(rows[i], rows[i + 1]);
    const vf cd_low = FT_LOW(rows[i + 2], rows[i + 3]), cd_high = FT_HIGH(rows[i + 2], rows[i + 3]);
    quads[i] = FT_LOW2(ab_low, cd_low), quads[i + 1] = FT_HIGH2(ab_low, cd_low);
    quads[i + 2] = FT_LOW2(ab_high, cd_high), quads[i + 3] = FT_HIGH2(ab_high, cd_high);
  }
  for (int i = 0; i < 4; ++i) {
#if FT_LANES == 8
    store(out + i * out_row, __builtin_shufflevector(quads[i], quads[i + 4], 0, 1, 2, 3, 8, 9, 10, 11));
    store(out + (i + 4) * out_row, __builtin_shufflevector(quads[i], quads[i + 4], 4, 5, 6, 7, 12, 13, 14, 15));
#else
    store(out + i * out_row, quads[i]);
#endif
  }
}
#endif

#undef FT_LOW
#undef FT_HIGH
#undef FT_LOW2
#undef FT_HIGH2

}  // namespace FT_ISA
}  // namespace ft
