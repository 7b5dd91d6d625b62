// What the kernels of the commonest normalisation share: five channels, power ¾.
#pragma once

#include <utility>

#include "cpu/rsqrt.h"
#include "lrn.h"

namespace ft {
namespace FT_ISA {

// Vector of the elements first, first + step, … of a and b in a row.
template <int first, int step, int... lane>
FT_INLINE vf picked(vf a, vf b, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(a, b, (first + step * lane)...);
}

typedef std::make_integer_sequence<int, FT_LANES> Lanes;

template <int first>
FT_INLINE vf shifted(vf a, vf b) {
  return picked<first, 1>(a, b, Lanes{});
}

// 4k and 4·alpha, which save `p_of` two products; a copy that no store through a float pointer can change.
struct FiveConstants {
  float k, alpha;
  explicit FiveConstants(const LrnArgs& a) : k(4.0f * a.k), alpha(4.0f * a.alpha) {}
};

// s^−½ of n vectors of sums, s = k + alpha · sum: an estimate and one Newton step, relative error below 3e-7. The
// steps of all vectors side by side: one after the other, their chains would wait in the scheduler of the CPU.
template <int n>
FT_INLINE void roots(const FiveConstants& k, const vf* sum, vf* root) {
  vf s[n], t[n];
  for (int i = 0; i < n; ++i) s[i] = at_most(1e38f, k.k + k.alpha * sum[i]);
  for (int i = 0; i < n; ++i) root[i] = rsqrt_estimate(s[i]);
  for (int i = 0; i < n; ++i) t[i] = s[i] * root[i];
  for (int i = 0; i < n; ++i) t[i] = 3.0f - t[i] * root[i];
  for (int i = 0; i < n; ++i) root[i] = root[i] * t[i];
}

template <bool relu>
FT_INLINE vf square_of(const float* x) {
  const vf v = relu ? at_least(0.0f, load(x)) : load(x);
  return v * v;
}

// Walks along the channels of two pixels `apart` floats from each other.
template <bool relu>
struct Walk {
  vf own[2], pairs[2];  // squares of the vector at hand; of the one before it, sums of each with its right neighbour

  FT_INLINE Walk(const float* x, int64_t apart) {
    for (int r = 0; r < 2; ++r) {
      own[r] = square_of<relu>(x + r * apart);
      pairs[r] = shifted<1>(vf{}, own[r]);
    }
  }

  // Squares and the sums over their windows, [2i + r] of vector i of pixel r; `next` points at the values behind the
  // vector at hand, null behind the last one.
  template <int n, bool last>
  FT_INLINE void step(const float* next, int64_t apart, vf* square, vf* sum) {
    for (int i = 0; i < n; ++i) {
      for (int r = 0; r < 2; ++r) {
        const vf more = last && i == n - 1 ? vf{} : square_of<relu>(next + i * FT_LANES + r * apart);
        const vf pair = own[r] + shifted<1>(own[r], more);
        sum[2 * i + r] = (shifted<FT_LANES - 2>(pairs[r], pair) + pair) + shifted<2>(own[r], more);
        square[2 * i + r] = own[r];
        pairs[r] = pair;
        own[r] = more;
      }
    }
  }
};

// Calls f(n, c, square, sum) for n vectors of channels, c the first, of two pixels `apart` floats from each other.
template <bool relu, class F>
FT_INLINE void each_vector(const float* x, int64_t apart, int64_t channels, const F& f) {
  typedef std::integral_constant<int, 2> Two;
  typedef std::integral_constant<int, 1> One;
  Walk<relu> walk(x, apart);
  vf square[4], sum[4];
  int64_t c = 0;
  for (; c + 2 * FT_LANES < channels; c += 2 * FT_LANES) {
    walk.template step<2, false>(x + c + FT_LANES, apart, square, sum);
    f(Two{}, c, square, sum);
  }
  if (c + FT_LANES < channels) {
    walk.template step<1, false>(x + c + FT_LANES, apart, square, sum);
    f(One{}, c, square, sum);
    c += FT_LANES;
  }
  walk.template step<1, true>(nullptr, apart, square, sum);
  f(One{}, c, square, sum);
}

}  // namespace FT_ISA
}  // namespace ft
