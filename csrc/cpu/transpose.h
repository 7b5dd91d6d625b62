// Transposition of a square of vectors.
#pragma once

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

// Transposes FT_LANES vectors in place: interleaving first and second half log2(FT_LANES) times.
FT_INLINE void transpose(vf* x) {
  for (int step = 1; step < FT_LANES; step *= 2) {
    vf y[FT_LANES];
    for (int i = 0; i < FT_LANES / 2; ++i) {
      const vf a = x[i], b = x[i + FT_LANES / 2];
#if FT_LANES == 4
      y[2 * i] = __builtin_shufflevector(a, b, 0, 4, 1, 5);
      y[2 * i + 1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#elif FT_LANES == 8
      y[2 * i] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
      y[2 * i + 1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
      y[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      y[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#endif
    }
    for (int i = 0; i < FT_LANES; ++i) x[i] = y[i];
  }
}

}  // namespace FT_ISA
}  // namespace ft
