// FFT of contiguous complex elements with frequencies in their natural order (fft.h).
#include "cpu/fft_passes.h"

namespace ft {
namespace FT_ISA {
namespace {

// The first pass of two packed vectors of real signals: rows of `map` times those of `window`.
template <int R, bool Windowed>
void halved_pass(const float* map, index row, const float* window, index m, const float* twiddle, float* out) {
  for (index j = 0; j < m; ++j, map += row) {
    const float* w = twiddle + j * (R - 1) * kComplex;
    float* to = out + j * kComplex;
    const float* factors = Windowed ? window + j * kComplex : nullptr;
    butterfly<R, false, R, R>(
        [&](index q) __attribute__((always_inline)) {
          const Complex x = load_complex(map + q * m * row);
          if constexpr (!Windowed) return 0.5f * x;
          const Complex factor = load_complex(factors + q * m * kComplex);
          return Complex{x.re * factor.re, x.im * factor.im};
        },
        [&](index q, Complex y) __attribute__((always_inline)) {
          store_complex(to + q * m * kComplex, q == 0 || m == 1 ? y : times(y, load_complex(w + (q - 1) * kComplex)));
        });
  }
}

// Last pass: the R elements from position[k] on hold the frequencies k, k + m, k + 2 m, ...
template <int R>
void ordered_leaf(const float* in, const std::int32_t* position, index m, float* out) {
  for (index k = 0; k < m; ++k, out += kComplex) {
    const float* from = in + position[k] * kComplex;
    butterfly<R, false, R, R>([&](index q) __attribute__((always_inline)) { return load_complex(from + q * kComplex); },
                              [&](index q, Complex y)
                                  __attribute__((always_inline)) { store_complex(out + q * m * kComplex, y); });
  }
}

// The passes from `pass` on, of which the last writes to `out`.
void ordered_from(const FftPlan& plan, std::size_t pass, float* data, float* out) {
  const std::size_t last = plan.radix.size() - 1;
  for (; pass < last; ++pass) {
    const index length = plan.block[pass];
#define FT_CALL(R) middle_pass<R, false>(data, plan.n / length, length, plan.twiddle[pass])
    FT_BY_RADIX(plan.radix[pass], FT_CALL)
#undef FT_CALL
  }
#define FT_CALL(R) ordered_leaf<R>(data, plan.position.data(), plan.n / R, out)
  FT_BY_RADIX(plan.radix[last], FT_CALL)
#undef FT_CALL
}

}  // namespace

void fft_ordered(const FftPlan& plan, float* data, float* out) {
  if (plan.radix.empty()) return store_complex(out, load_complex(data));
  ordered_from(plan, 0, data, out);
}

void fft_ordered_real(const FftPlan& plan, const float* map, std::ptrdiff_t row, const float* window, float* out,
                      float* scratch) {
  if (plan.radix.empty()) {
    const Complex x = load_complex(map);
    const Complex factor = window != nullptr ? load_complex(window) : Complex{splat(0.5f), splat(0.5f)};
    return store_complex(out, {x.re * factor.re, x.im * factor.im});
  }
  const bool alone = plan.radix.size() == 1;
  const index m = plan.n / plan.radix[0];
  float* to = alone ? out : scratch;
#define FT_CALL(R)                                                    \
  if (window != nullptr) {                                            \
    halved_pass<R, true>(map, row, window, m, plan.twiddle[0], to);   \
  } else {                                                            \
    halved_pass<R, false>(map, row, nullptr, m, plan.twiddle[0], to); \
  }
  FT_BY_RADIX(plan.radix[0], FT_CALL)
#undef FT_CALL
  if (!alone) ordered_from(plan, 1, scratch, out);
}

}  // namespace FT_ISA
}  // namespace ft
