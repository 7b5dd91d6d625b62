// What the forms of the FFT share: passes over contiguous complex elements, and the choice of a radix.
#pragma once

#include "cpu/fft.h"

namespace ft {
namespace FT_ISA {

using index = std::ptrdiff_t;

// A pass in place that is neither the last of a forward transform nor the first of an inverse one. `static`: each user
// inlines it as its own.
template <int R, bool Inv>
static void middle_pass(float* data, index blocks, index length, const float* twiddle) {
  const index m = length / R;
  for (index b = 0; b < blocks; ++b) {
    for (index j = 0; j < m; ++j) {
      const float* w = twiddle + j * (R - 1) * kComplex;
      float* at = data + (b * length + j) * kComplex;
      butterfly<R, Inv, R, R>(
          [&](index q) __attribute__((always_inline)) {
            const Complex x = load_complex(at + q * m * kComplex);
            return Inv && q > 0 ? times_conj(x, load_complex(w + (q - 1) * kComplex)) : x;
          },
          [&](index q, Complex y) __attribute__((always_inline)) {
            store_complex(at + q * m * kComplex, !Inv && q > 0 ? times(y, load_complex(w + (q - 1) * kComplex)) : y);
          });
    }
  }
}

}  // namespace FT_ISA
}  // namespace ft

#define FT_BY_RADIX(radix, CALL) \
  switch (radix) {               \
    case 2:                      \
      CALL(2);                   \
      break;                     \
    case 3:                      \
      CALL(3);                   \
      break;                     \
    case 4:                      \
      CALL(4);                   \
      break;                     \
    case 5:                      \
      CALL(5);                   \
      break;                     \
    case 6:                      \
      CALL(6);                   \
      break;                     \
    default:                     \
      CALL(8);                   \
      break;                     \
  }
