// Mixed-radix FFT over SIMD lanes: one independent signal per lane (channels, or tiles).
//
// Forward transforms leave their output in digit-reversed order and inverse transforms take it in that
// order, so nothing is ever permuted; `FftPlan::position` says where a frequency lives.
// A complex element is two vectors, real then imaginary: 2 * FT_LANES floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

constexpr std::ptrdiff_t kComplex = 2 * FT_LANES;  // floats per complex element

struct Complex {
  vf re, im;
};

// A compile-time zero: butterflies whose trailing inputs are known to be zero drop those terms.
struct Zero {
  operator Complex() const { return {vf{}, vf{}}; }
};

FT_INLINE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
FT_INLINE Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
FT_INLINE Complex operator*(float s, Complex a) { return {s * a.re, s * a.im}; }
FT_INLINE Complex operator+(Complex a, Zero) { return a; }
FT_INLINE Complex operator+(Zero, Complex b) { return b; }
FT_INLINE Zero operator+(Zero, Zero) { return {}; }
FT_INLINE Complex operator-(Complex a, Zero) { return a; }
FT_INLINE Complex operator-(Zero, Complex b) { return {-b.re, -b.im}; }
FT_INLINE Zero operator-(Zero, Zero) { return {}; }
FT_INLINE Zero operator*(float, Zero) { return {}; }

// Multiply by -i (forward) or +i (inverse).
template <bool Inv>
FT_INLINE Complex turn(Complex a) {
  if constexpr (Inv) {
    return {-a.im, a.re};
  } else {
    return {a.im, -a.re};
  }
}
template <bool Inv>
FT_INLINE Zero turn(Zero) {
  return {};
}

template <bool Inv, class A, class B>
FT_INLINE auto dft(A x0, B x1) {
  return std::make_tuple(x0 + x1, x0 - x1);
}

template <bool Inv, class A, class B, class C>
FT_INLINE auto dft(A x0, B x1, C x2) {
  const auto sum = x1 + x2;
  const auto across = turn<Inv>(0.866025403784438647f * (x1 - x2));
  const auto middle = x0 + (-0.5f) * sum;
  return std::make_tuple(x0 + sum, middle + across, middle - across);
}

template <bool Inv, class A, class B, class C, class D>
FT_INLINE auto dft(A x0, B x1, C x2, D x3) {
  const auto even = x0 + x2, even_across = x0 - x2;
  const auto odd = x1 + x3, odd_across = turn<Inv>(x1 - x3);
  return std::make_tuple(even + odd, even_across + odd_across, even - odd, even_across - odd_across);
}

template <bool Inv, class A, class B, class C, class D, class E>
FT_INLINE auto dft(A x0, B x1, C x2, D x3, E x4) {
  constexpr float c1 = 0.309016994374947424f, c2 = -0.809016994374947424f;
  constexpr float s1 = 0.951056516295153572f, s2 = 0.587785252292473129f;
  const auto a1 = x1 + x4, b1 = x1 - x4;
  const auto a2 = x2 + x3, b2 = x2 - x3;
  const auto m1 = x0 + c1 * a1 + c2 * a2;
  const auto m2 = x0 + c2 * a1 + c1 * a2;
  const auto t1 = turn<Inv>(s1 * b1 + s2 * b2);
  const auto t2 = turn<Inv>(s2 * b1 - s1 * b2);
  return std::make_tuple(x0 + a1 + a2, m1 + t1, m2 + t2, m2 - t2, m1 - t1);
}

// Good-Thomas 2 x 3: no inner twiddles.
template <bool Inv, class A, class B, class C, class D, class E, class F>
FT_INLINE auto dft(A x0, B x1, C x2, D x3, E x4, F x5) {
  const auto [a0, a1, a2] = dft<Inv>(x0, x2, x4);
  const auto [b0, b1, b2] = dft<Inv>(x3, x5, x1);
  return std::make_tuple(a0 + b0, a1 - b1, a2 + b2, a0 - b0, a1 + b1, a2 - b2);
}

template <bool Inv, class A, class B, class C, class D, class E, class F, class G, class H>
FT_INLINE auto dft(A x0, B x1, C x2, D x3, E x4, F x5, G x6, H x7) {
  constexpr float half = 0.707106781186547524f;
  const auto [a0, a1, a2, a3] = dft<Inv>(x0, x2, x4, x6);
  const auto [b0, b1, b2, b3] = dft<Inv>(x1, x3, x5, x7);
  const auto c1 = half * (b1 + turn<Inv>(b1));
  const auto c2 = turn<Inv>(b2);
  const auto c3 = half * (turn<Inv>(b3) - b3);
  return std::make_tuple(a0 + b0, a1 + c1, a2 + c2, a3 + c3, a0 - b0, a1 - c1, a2 - c2, a3 - c3);
}

// Input Q of a butterfly whose inputs from P on are zero.
template <std::size_t Q, int P, class Load>
FT_INLINE auto input(const Load& load) {
  if constexpr (Q < static_cast<std::size_t>(P)) {
    return load(static_cast<std::ptrdiff_t>(Q));
  } else {
    return Zero{};
  }
}

template <bool Inv, int P, class Load, std::size_t... Q>
FT_INLINE auto transform(const Load& load, std::index_sequence<Q...>) {
  return dft<Inv>(input<Q, P>(load)...);
}

template <int Out, std::size_t... Q, class Store, class Outputs>
FT_INLINE void store_first(const Store& store, const Outputs& y, std::index_sequence<Q...>) {
  (store(static_cast<std::ptrdiff_t>(Q), static_cast<Complex>(std::get<Q>(y))), ...);
}

// R-point butterfly: inputs 0..In-1 are loaded (the others are zero), outputs 0..Out-1 are stored.
template <int R, bool Inv, int In, int Out, class Load, class Store>
FT_INLINE void butterfly(const Load& load, const Store& store) {
  const auto y = transform<Inv, In>(load, std::make_index_sequence<R>{});
  store_first<Out>(store, y, std::make_index_sequence<Out>{});
}

FT_INLINE Complex load_complex(const float* p) { return {load(p), load(p + FT_LANES)}; }
FT_INLINE void store_complex(float* p, Complex v) {
  store(p, v.re);
  store(p + FT_LANES, v.im);
}
FT_INLINE Complex times(Complex a, Complex w) { return {a.re * w.re - a.im * w.im, a.re * w.im + a.im * w.re}; }
FT_INLINE Complex times_conj(Complex a, Complex w) { return {a.re * w.re + a.im * w.im, a.im * w.re - a.re * w.im}; }

// One length, its passes, and its tables. Pass i splits blocks of length block[i] by radix[i].
struct FftPlan {
  std::int64_t n = 0;
  std::vector<int> radix;
  std::vector<std::int64_t> block;
  std::vector<const float*> twiddle;   // per pass: (block / radix) x (radix - 1) complex vectors
  std::vector<std::int32_t> position;  // where frequency k lives in a transformed row
};

// Cycles of one transform of length n, for choosing lengths.
double fft_cost(std::int64_t n);

// The plan of length n (2, 3, 5-smooth), made once and kept for the life of the process.
const FftPlan& fft_plan(std::int64_t n);

// Where a transform reads or writes: separate real and imaginary addresses, one stride (floats) per
// element and one per row, so that two real rows can be packed into one complex row for free.
struct Rows {
  float* re;
  float* im;
  std::ptrdiff_t element;
  std::ptrdiff_t row;
  std::ptrdiff_t imag_row;  // row stride of `im`
};
inline Rows complex_rows(float* p, std::ptrdiff_t element, std::ptrdiff_t row) {
  return {p, p + FT_LANES, element, row, row};
}

// `rows` forward transforms; only elements 0..nonzero-1 of each input row are read, the rest count as
// zero. `scratch` holds rows * n complex elements.
void fft_forward(const FftPlan& plan, std::int64_t rows, std::int64_t nonzero, Rows in, Rows out, float* scratch);
// `rows` inverse transforms (unscaled); only elements 0..wanted-1 of each output row are written.
void fft_inverse(const FftPlan& plan, std::int64_t rows, std::int64_t wanted, Rows in, Rows out, float* scratch);

// One forward transform of contiguous complex elements that leaves the frequencies in their natural order; `data` is
// destroyed and is not `out`.
void fft_ordered(const FftPlan& plan, float* data, float* out);
// The same of two vectors of real signals, packed into one complex vector, times a window: element y is map[y row],
// two vectors long, times element y of the window; null: 1/2. `scratch` holds n complex elements.
void fft_ordered_real(const FftPlan& plan, const float* map, std::ptrdiff_t row, const float* window, float* out,
                      float* scratch);

}  // namespace FT_ISA
}  // namespace ft
