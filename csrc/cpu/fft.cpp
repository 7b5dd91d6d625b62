// The passes of the mixed-radix FFT in fft.h: decimation in frequency forward, its transpose backward.
#include "cpu/fft.h"

#include "cpu/fft_passes.h"

namespace ft {
namespace FT_ISA {
namespace {

// Butterflies j0..j1-1 of the first forward pass of one row; In inputs of each are nonzero.
template <int R, int In>
void first_pass(const Rows& in, index j0, index j1, index m, const float* twiddle, float* out, index step) {
  for (index j = j0; j < j1; ++j) {
    const float* w = twiddle + j * (R - 1) * kComplex;
    butterfly<R, false, In, R>(
        [&](index q) __attribute__((always_inline)) {
          const index at = (j + q * m) * in.element;
          return Complex{load(in.re + at), load(in.im + at)};
        },
        [&](index q, Complex y) __attribute__((always_inline)) {
          float* to = out + (j + q * m) * step;
          store_complex(to, q == 0 || m == 1 ? y : times(y, load_complex(w + (q - 1) * kComplex)));
        });
  }
}

// Butterflies j0..j1-1 of the last inverse pass of one row; Out outputs of each are wanted.
template <int R, int Out>
void last_pass(const float* in, index step, index j0, index j1, index m, const float* twiddle, const Rows& out) {
  for (index j = j0; j < j1; ++j) {
    const float* w = twiddle + j * (R - 1) * kComplex;
    butterfly<R, true, R, Out>(
        [&](index q) __attribute__((always_inline)) {
          const Complex x = load_complex(in + (j + q * m) * step);
          return q == 0 || m == 1 ? x : times_conj(x, load_complex(w + (q - 1) * kComplex));
        },
        [&](index q, Complex y) __attribute__((always_inline)) {
          const index at = (j + q * m) * out.element;
          store(out.re + at, y.re);
          store(out.im + at, y.im);
        });
  }
}

template <int R, int P>
void first_pass_of(int in_count, const Rows& in, index j0, index j1, index m, const float* tw, float* out, index step) {
  if constexpr (P < 0) {
    return;
  } else {
    if (in_count == P) return first_pass<R, P>(in, j0, j1, m, tw, out, step);
    first_pass_of<R, P - 1>(in_count, in, j0, j1, m, tw, out, step);
  }
}

template <int R, int P>
void last_pass_of(int out_count, const float* in, index step, index j0, index j1, index m, const float* tw,
                  const Rows& out) {
  if constexpr (P < 1) {
    return;
  } else {
    if (out_count == P) return last_pass<R, P>(in, step, j0, j1, m, tw, out);
    last_pass_of<R, P - 1>(out_count, in, step, j0, j1, m, tw, out);
  }
}

// A first or last pass has `count` live elements out of n: butterflies below `split` touch `high` of
// their R elements, the others high - 1.
struct Pruning {
  index split;
  int high;
};
inline Pruning prune(index count, index m) {
  const index high = (count + m - 1) / m;
  return {count - (high - 1) * m, static_cast<int>(high)};
}

template <int R>
void first_rows(const FftPlan& plan, index rows, index nonzero, Rows in, float* out, index step, index row) {
  const index m = plan.n / R;
  const Pruning p = prune(nonzero, m);
  for (index b = 0; b < rows; ++b, in.re += in.row, in.im += in.imag_row, out += row) {
    first_pass_of<R, R>(p.high, in, 0, p.split, m, plan.twiddle[0], out, step);
    first_pass_of<R, R - 1>(p.high - 1, in, p.split, m, m, plan.twiddle[0], out, step);
  }
}

template <int R>
void last_rows(const FftPlan& plan, index rows, index wanted, const float* in, index step, index row, Rows out) {
  const index m = plan.n / R;
  const Pruning p = prune(wanted, m);
  for (index b = 0; b < rows; ++b, in += row, out.re += out.row, out.im += out.imag_row) {
    last_pass_of<R, R>(p.high, in, step, 0, p.split, m, plan.twiddle[0], out);
    last_pass_of<R, R - 1>(p.high - 1, in, step, p.split, m, m, plan.twiddle[0], out);
  }
}

// Last forward pass: contiguous groups of R, no twiddles, written with the caller's strides.
template <int R>
void leaf_forward(const float* in, index rows, index groups, Rows out) {
  for (index b = 0; b < rows; ++b) {
    for (index g = 0; g < groups; ++g) {
      const float* from = in + (b * groups + g) * R * kComplex;
      const index to = g * R * out.element;
      butterfly<R, false, R, R>([&](index q)
                                    __attribute__((always_inline)) { return load_complex(from + q * kComplex); },
                                [&](index q, Complex y) __attribute__((always_inline)) {
                                  store(out.re + to + q * out.element, y.re);
                                  store(out.im + to + q * out.element, y.im);
                                });
    }
    out.re += out.row;
    out.im += out.imag_row;
  }
}

template <int R>
void leaf_inverse(Rows in, index rows, index groups, float* out) {
  for (index b = 0; b < rows; ++b) {
    for (index g = 0; g < groups; ++g) {
      float* to = out + (b * groups + g) * R * kComplex;
      const index from = g * R * in.element;
      butterfly<R, true, R, R>(
          [&](index q) __attribute__((always_inline)) {
            return Complex{load(in.re + from + q * in.element), load(in.im + from + q * in.element)};
          },
          [&](index q, Complex y) __attribute__((always_inline)) { store_complex(to + q * kComplex, y); });
    }
    in.re += in.row;
    in.im += in.imag_row;
  }
}

}  // namespace

void fft_forward(const FftPlan& plan, std::int64_t rows, std::int64_t nonzero, Rows in, Rows out, float* scratch) {
  const index n = plan.n;
  const int passes = static_cast<int>(plan.radix.size());
  if (passes == 0) {  // n == 1: a copy
    for (index b = 0; b < rows; ++b) {
      store(out.re + b * out.row, load(in.re + b * in.row));
      store(out.im + b * out.imag_row, load(in.im + b * in.imag_row));
    }
    return;
  }
  const bool direct = passes == 1;  // one pass writes to its destination at once
  float* to = direct ? out.re : scratch;
  const index step = direct ? out.element : kComplex, row = direct ? out.row : n * kComplex;
#define FT_CALL(R) first_rows<R>(plan, rows, nonzero, in, to, step, row)
  FT_BY_RADIX(plan.radix[0], FT_CALL)
#undef FT_CALL
  for (int pass = 1; pass + 1 < passes; ++pass) {
    const index length = plan.block[pass];
#define FT_CALL(R) middle_pass<R, false>(scratch, rows * n / length, length, plan.twiddle[pass])
    FT_BY_RADIX(plan.radix[pass], FT_CALL)
#undef FT_CALL
  }
  if (direct) return;
#define FT_CALL(R) leaf_forward<R>(scratch, rows, n / R, out)
  FT_BY_RADIX(plan.radix[passes - 1], FT_CALL)
#undef FT_CALL
}

void fft_inverse(const FftPlan& plan, std::int64_t rows, std::int64_t wanted, Rows in, Rows out, float* scratch) {
  const index n = plan.n;
  const int passes = static_cast<int>(plan.radix.size());
  if (passes == 0) {
    for (index b = 0; b < rows; ++b) {
      store(out.re + b * out.row, load(in.re + b * in.row));
      store(out.im + b * out.imag_row, load(in.im + b * in.imag_row));
    }
    return;
  }
  const bool direct = passes == 1;
  if (!direct) {
#define FT_CALL(R) leaf_inverse<R>(in, rows, n / R, scratch)
    FT_BY_RADIX(plan.radix[passes - 1], FT_CALL)
#undef FT_CALL
    for (int pass = passes - 2; pass > 0; --pass) {
      const index length = plan.block[pass];
#define FT_CALL(R) middle_pass<R, true>(scratch, rows * n / length, length, plan.twiddle[pass])
      FT_BY_RADIX(plan.radix[pass], FT_CALL)
#undef FT_CALL
    }
  }
  const float* from = direct ? in.re : scratch;
  const index step = direct ? in.element : kComplex, row = direct ? in.row : n * kComplex;
#define FT_CALL(R) last_rows<R>(plan, rows, wanted, from, step, row, out)
  FT_BY_RADIX(plan.radix[0], FT_CALL)
#undef FT_CALL
}

}  // namespace FT_ISA
}  // namespace ft
