// Products of a float matrix with vectors of float or double, and triangular solves: one pass over the matrix each.
#pragma once

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

typedef double vd __attribute__((vector_size(FT_LANES * 4)));
typedef float vhalf __attribute__((vector_size(FT_LANES * 2)));

// How vectors of type T read the matrix: in float as they are, in double widened.
template <class T>
struct Wide;

template <>
struct Wide<float> {
  typedef vf vec;
  static constexpr int lanes = FT_LANES;
  static FT_INLINE vec matrix(const float* p) { return load(p); }
};

template <>
struct Wide<double> {
  typedef vd vec;
  static constexpr int lanes = FT_LANES / 2;
  static FT_INLINE vec matrix(const float* p) {
    vhalf v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, vec);
  }
};

template <class T>
FT_INLINE typename Wide<T>::vec load_wide(const T* p) {
  typename Wide<T>::vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// out[r] = Σ_t rows[r * stride + t]·x[t] for R rows.
template <int R, class T>
FT_INLINE void dots(const float* rows, int64_t stride, int64_t count, const T* x, T* out) {
  typedef Wide<T> W;
  typename W::vec sums[R] = {};
  int64_t t = 0;
  for (; t + W::lanes <= count; t += W::lanes) {
    const typename W::vec at = load_wide(x + t);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[r] += W::matrix(rows + r * stride + t) * at;
  }
  for (int r = 0; r < R; ++r) {
    T total = 0;
    for (int lane = 0; lane < W::lanes; ++lane) total += sums[r][lane];
    for (int64_t tail = t; tail < count; ++tail) total += static_cast<T>(rows[r * stride + tail]) * x[tail];
    out[r] = total;
  }
}

// y[t] += Σ_r a[r]·rows[r * stride + t] for R rows.
template <int R, class T>
FT_INLINE void add_rows(const float* rows, int64_t stride, int64_t count, const T* a, T* y) {
  typedef Wide<T> W;
  int64_t t = 0;
  for (; t + W::lanes <= count; t += W::lanes) {
    typename W::vec sum = load_wide(y + t);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum += W::matrix(rows + r * stride + t) * (a[r] - typename W::vec{});
    std::memcpy(y + t, &sum, sizeof sum);
  }
  for (; t < count; ++t)
    for (int r = 0; r < R; ++r) y[t] += a[r] * static_cast<T>(rows[r * stride + t]);
}

constexpr int64_t kBlock = 8;  // rows read at a time: as many streams as the prefetchers follow

// out (n) = X x, X (n, d).
template <class T>
void times(const float* X, int64_t n, int64_t d, const T* x, T* out) {
  const int64_t blocks = n / kBlock;
#pragma omp parallel for schedule(static) if (n * d >= 1 << 16)
  for (int64_t i = 0; i < blocks; ++i) dots<kBlock>(X + i * kBlock * d, d, d, x, out + i * kBlock);
  for (int64_t i = blocks * kBlock; i < n; ++i) dots<1>(X + i * d, d, d, x, out + i);
}

// out (d) = Xᵀ x, X (n, d).
template <class T>
void times_transposed(const float* X, int64_t n, int64_t d, const T* x, T* out) {
  constexpr int64_t kStrip = 2048;  // of `out`, which stays in the first cache
  const int64_t strips = (d + kStrip - 1) / kStrip;
#pragma omp parallel for schedule(static) if (n * d >= 1 << 16)
  for (int64_t s = 0; s < strips; ++s) {
    const int64_t first = s * kStrip, width = d - first < kStrip ? d - first : kStrip;
    std::memset(out + first, 0, static_cast<size_t>(width) * sizeof(T));
    int64_t i = 0;
    for (; i + kBlock <= n; i += kBlock) add_rows<kBlock>(X + i * d + first, d, width, x + i, out + first);
    for (; i < n; ++i) add_rows<1>(X + i * d + first, d, width, x + i, out + first);
  }
}

// x ← (L Lᵀ)⁻¹ x, L (n, n) lower, row after row.
inline void solve_cholesky(const float* L, int64_t n, float* x) {
  const int64_t whole = n / kBlock * kBlock;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t rows = i < whole ? kBlock : n - i;
    float known[kBlock];
    if (rows == kBlock) {
      dots<kBlock>(L + i * n, n, i, x, known);
    } else {
      for (int64_t r = 0; r < rows; ++r) dots<1>(L + (i + r) * n, n, i, x, known + r);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = L + (i + r) * n + i;
      float value = x[i + r] - known[r];
      for (int64_t s = 0; s < r; ++s) value -= row[s] * x[i + s];
      x[i + r] = value / row[r];
    }
  }
  for (int64_t end = n; end > 0;) {
    const int64_t i = (end - 1) / kBlock * kBlock, rows = end - i;
    float minus[kBlock];
    for (int64_t r = rows - 1; r >= 0; --r) {
      float value = x[i + r];
      for (int64_t s = r + 1; s < rows; ++s) value -= L[(i + s) * n + i + r] * x[i + s];
      x[i + r] = value / L[(i + r) * n + i + r];
      minus[r] = -x[i + r];
    }
    if (rows == kBlock) {
      add_rows<kBlock>(L + i * n, n, i, minus, x);
    } else {
      for (int64_t r = 0; r < rows; ++r) add_rows<1>(L + (i + r) * n, n, i, minus + r, x);
    }
    end = i;
  }
}

}  // namespace FT_ISA
}  // namespace ft
