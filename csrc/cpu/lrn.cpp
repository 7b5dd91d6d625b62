// Local response normalisation across channels, alone or as relu → LRN → max-pool in one pass.
//
// The squares of a block of pixels go to scratch with a rim of zeros, so that the sum over a window of
// channels is a sum of loads. s^−¾ comes from two estimates of a reciprocal square root and one step of
// third order. Fused, rows are normalised into a ring of `pool` rows and reduced from there: behind the
// ReLU nothing is negative, so floats compare as integers, where a NaN (its sign cleared) wins.
#include "lrn.h"

#include "cpu/lrn_alone.h"
#include "cpu/lrn_pool.h"
#include "cpu/rsqrt.h"
#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kPixels = 8;               // channels-last: pixels whose squares are kept at once
constexpr int64_t kBlock = 256;              // channels-first: pixels at once
constexpr int64_t kParallelFrom = 1 << 15;   // elements below which threads cost more than they give
constexpr float kLeastForEstimate = 1e-30f;  // the estimates take what is denormal for zero

int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }
int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

FT_INLINE vf load_part(const float* p, int64_t n) {
  vf v = {};
  std::memcpy(&v, p, n * sizeof(float));
  return v;
}

FT_INLINE void store_part(float* p, vf v, int64_t n) { std::memcpy(p, &v, n * sizeof(float)); }

// s^−¾ for s ≥ kLeastForEstimate, relative error below 4e-7. With y = s^−¾(1 + e) the residual
// d = 1 − s³y⁴ is −4e + …, and y(1 + d/4 + 5d²/32) leaves an error of third order.
FT_INLINE vf power_three_quarters(vf s) {
  s = at_most(1e38f, s);
  const vf r = rsqrt_estimate(s);
  const vf y = r * (r * rsqrt_estimate(r));
  const vf t = s * y;
  const vf d = 1.0f - (t * y) * (t * t);
  return y + (y * d) * (0.25f + 0.15625f * d);
}

template <bool fast>
FT_INLINE vf power(vf s, float beta) {
  if (fast) return power_three_quarters(s);
  for (int i = 0; i < FT_LANES; ++i) s[i] = __builtin_powf(s[i], -beta);
  return s;
}

template <bool relu>
FT_INLINE vf rectified(vf v) {
  return relu ? at_least(0.0f, v) : v;
}

// A copy the compiler can keep in registers: no store through a float pointer can change it.
struct Constants {
  float k, alpha, beta;
  explicit Constants(const LrnArgs& a) : k(a.k), alpha(a.alpha), beta(a.beta) {}
};

// x·s^−β from x and the sum of squares; x − x is NaN where x is infinite, as infinity over infinity is.
template <bool relu, bool fast>
FT_INLINE vf normalised(const Constants& k, vf x, vf sum) {
  const vf v = rectified<relu>(x);
  const vf y = v * power<fast>(k.k + k.alpha * sum, k.beta) + (v - v);
  return relu ? abs(y) : y;
}

// Σ of `size` vectors `step` floats apart.
template <int size>
FT_INLINE vf window_sum(const float* square, int64_t step, int64_t any_size) {
  if (size == 5) {
    return (load(square) + load(square + step)) + (load(square + 2 * step) + load(square + 3 * step)) +
           load(square + 4 * step);
  }
  vf sum = load(square);
  for (int64_t i = 1; i < any_size; ++i) sum += load(square + i * step);
  return sum;
}

// Calls f(offset) for the vectors that cover n ≥ FT_LANES values; the last may overlap the one before it.
template <class F>
FT_INLINE void each_vector(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + FT_LANES <= n; i += FT_LANES) f(i);
  if (i < n) f(n - FT_LANES);
}

template <bool relu>
FT_INLINE void squares(int64_t n, const float* from, float* to) {
  if (n < FT_LANES) {
    const vf v = rectified<relu>(load_part(from, n));
    return store_part(to, v * v, n);
  }
  each_vector(n, [=](int64_t i) {
    const vf v = rectified<relu>(load(from + i));
    store(to + i, v * v);
  });
}

// `square` points at the first square of the first window; the squares of a window are `step` apart.
template <bool relu, bool fast, int size>
FT_INLINE void normalise(const Constants& k, int64_t n, const float* from, const float* square, int64_t step,
                         int64_t window, float* to) {
  if (n < FT_LANES) {
    const vf sum = window_sum<size>(square, step, window);
    return store_part(to, normalised<relu, fast>(k, load_part(from, n), sum), n);
  }
  each_vector(n, [=](int64_t i) {
    store(to + i, normalised<relu, fast>(k, load(from + i), window_sum<size>(square + i, step, window)));
  });
}

// Pixels of contiguous channels. `square` holds kPixels spans, zero outside of the squares written here.
template <bool relu, bool fast, int size>
void channels_last_run(const LrnArgs& a, const float* x, int64_t pixels, float* out, float* square) {
  const Constants k{a};
  const int64_t window = a.before + a.after + 1, span = padded(a.channels + window + FT_LANES);
  for (int64_t first = 0; first < pixels; first += kPixels) {
    const int64_t n = least(kPixels, pixels - first);
    for (int64_t p = 0; p < n; ++p)
      squares<relu>(a.channels, x + (first + p) * a.channels, square + p * span + a.before);
    for (int64_t p = 0; p < n; ++p) {
      const int64_t at = (first + p) * a.channels;
      normalise<relu, fast, size>(k, a.channels, x + at, square + p * span, 1, window, out + at);
    }
  }
}

// At most kBlock pixels, their channels `plane` floats apart in x and `out_plane` in out. `square` is a ring
// with one row of kBlock squares per channel of the window: a window's sum is the sum of all rows.
template <bool relu, bool fast, int size>
void channels_first_block(const LrnArgs& a, const float* x, int64_t plane, int64_t pixels, float* out,
                          int64_t out_plane, float* square) {
  const Constants k{a};
  const int64_t window = a.before + a.after + 1;
  std::memset(square, 0, window * kBlock * sizeof(float));
  for (int64_t ahead = 0; ahead < a.channels + a.after; ++ahead) {
    float* row = square + ahead % window * kBlock;
    if (ahead < a.channels)
      squares<relu>(pixels, x + ahead * plane, row);
    else
      std::memset(row, 0, kBlock * sizeof(float));
    const int64_t c = ahead - a.after;
    if (c >= 0) normalise<relu, fast, size>(k, pixels, x + c * plane, square, kBlock, window, out + c * out_plane);
  }
}

struct Scratch {
  float *square, *row, *ring, *vertical;  // ring: `pool` rows, normalised (channels-last: and pooled along x)

  Scratch(const LrnArgs& a, Carver& c) {
    const int64_t window = a.before + a.after + 1;
    square = c.take<float>(a.channels_last ? kPixels * padded(a.channels + window + FT_LANES) : window * kBlock);
    row = c.take<float>(a.pool > 0 && a.channels_last ? a.width * a.channels : 0);
    ring = c.take<float>(a.pool * a.channels * (a.channels_last ? a.out_w : padded(a.width)));
    vertical = c.take<float>(a.pool > 0 ? padded(a.width) : 0);
  }
};

typedef int32_t Bits __attribute__((may_alias));

FT_INLINE int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

// out[i] = the largest of row(0)[i], row(1)[i], …; values are not negative.
template <class Row>
FT_INLINE void largest(const Row& row, int64_t rows, int64_t n, float* out) {
  const auto bits = [&](int64_t r) { return reinterpret_cast<const Bits*>(row(r)); };
  const Bits *a = bits(0), *b = bits(rows > 1 ? 1 : 0), *c = bits(rows > 2 ? 2 : 0);
  auto* to = reinterpret_cast<Bits*>(out);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = larger(larger(a[i], b[i]), c[i]);
  for (int64_t r = 3; r < rows; ++r) {
    const Bits* more = bits(r);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] = larger(to[i], more[i]);
  }
}

// The largest of each window along a row of n floats.
void pool_row(const float* row, int64_t n, int64_t pool, int64_t stride, int64_t out_n, float* out) {
  const auto* v = reinterpret_cast<const Bits*>(row);
  auto* to = reinterpret_cast<Bits*>(out);
  int64_t i = 0;
  if (pool == 3 && stride == 2) {
    const int64_t whole = least(out_n, n < 3 ? 0 : (n - 3) / 2 + 1);
#pragma omp simd
    for (int64_t j = 0; j < whole; ++j) to[j] = larger(larger(v[2 * j], v[2 * j + 1]), v[2 * j + 2]);
    i = whole;
  }
  for (; i < out_n; ++i) {
    const int64_t begin = i * stride, end = least(begin + pool, n);
    int32_t top = v[begin];
    for (int64_t j = begin + 1; j < end; ++j) top = larger(top, v[j]);
    to[i] = top;
  }
}

// Output rows [begin, end) of one image.
template <bool fast, int size>
void fused_rows(const LrnArgs& a, int64_t image, int64_t begin, int64_t end, const Scratch& s) {
  const int64_t channels = a.channels, plane = a.height * a.width, out_plane = a.out_h * a.out_w;
  const int64_t slot_row = padded(a.width);
  const int64_t slot_size = channels * (a.channels_last ? a.out_w : slot_row);
  const float* x = a.x + image * channels * plane;
  float* out = a.out + image * channels * out_plane;
  const auto slot = [&](int64_t y) { return s.ring + y % a.pool * slot_size; };
  int64_t next = 0;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t y0 = i * a.stride, y1 = least(y0 + a.pool, a.height);
    for (int64_t y = next > y0 ? next : y0; y < y1; ++y) {
      if (!a.channels_last) {
        for (int64_t j = 0; j < a.width; j += kBlock)
          channels_first_block<true, fast, size>(a, x + y * a.width + j, plane, least(kBlock, a.width - j), slot(y) + j,
                                                 slot_row, s.square);
        continue;
      }
      channels_last_run<true, fast, size>(a, x + y * a.width * channels, a.width, s.row, s.square);
      for (int64_t j = 0; j < a.out_w; ++j) {
        const float* from = s.row + j * a.stride * channels;
        largest([&](int64_t r) { return from + r * channels; }, least(a.pool, a.width - j * a.stride), channels,
                slot(y) + j * channels);
      }
    }
    next = y1;
    if (a.channels_last) {
      largest([&](int64_t r) { return slot(y0 + r); }, y1 - y0, a.out_w * channels, out + i * a.out_w * channels);
      continue;
    }
    for (int64_t c = 0; c < channels; ++c) {
      largest([&](int64_t r) { return slot(y0 + r) + c * slot_row; }, y1 - y0, slot_row, s.vertical);
      pool_row(s.vertical, a.width, a.pool, a.stride, a.out_w, out + c * out_plane + i * a.out_w);
    }
  }
}

template <bool fast, int size>
void fused(const LrnArgs& a) {
  const int threads = a.count * a.channels * a.height * a.width < kParallelFrom ? 1 : max_threads();
  const int64_t bands = a.count >= 2 * threads ? 1 : least(2 * threads, a.out_h);
  PerThread<Scratch> scratch(threads, a);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t item = 0; item < a.count * bands; ++item) {
    const int64_t image = item / bands, band = item % bands;
    fused_rows<fast, size>(a, image, band * a.out_h / bands, (band + 1) * a.out_h / bands,
                           scratch.of(thread_index(), a));
  }
}

template <bool fast, int size>
void alone(const LrnArgs& a) {
  const int64_t plane = a.height * a.width, pixels = a.count * plane;
  const int threads = pixels * a.channels < kParallelFrom ? 1 : max_threads();
  const int64_t block = a.channels_last ? 4 * kPixels : kBlock;
  const int64_t per_image = a.channels_last ? pixels : plane;
  const int64_t blocks = (per_image + block - 1) / block;
  PerThread<Scratch> scratch(threads, a);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t item = 0; item < pixels / per_image * blocks; ++item) {
    const int64_t image = item / blocks, first = item % blocks * block, n = least(block, per_image - first);
    const Scratch s = scratch.of(thread_index(), a);
    if (a.channels_last) {
      channels_last_run<false, fast, size>(a, a.x + first * a.channels, n, a.out + first * a.channels, s.square);
    } else {
      const int64_t at = image * a.channels * plane + first;
      channels_first_block<false, fast, size>(a, a.x + at, plane, n, a.out + at, plane, s.square);
    }
  }
}

template <bool fast, int size>
void run(const LrnArgs& a) {
  a.pool > 0 ? fused<fast, size>(a) : alone<fast, size>(a);
}

}  // namespace

void lrn(const LrnArgs& a) {
  const int64_t total = a.count * a.channels * (a.pool > 0 ? a.out_h * a.out_w : a.height * a.width);
  if (total == 0) return;
  hint_huge_pages(a.out, total * static_cast<int64_t>(sizeof(float)));
  if (lrn_alone_takes(a)) return lrn_alone(a);
  if (lrn_pool_takes(a) && lrn_pool(a)) return;
  const bool fast = a.beta == 0.75f && a.k >= kLeastForEstimate;
  if (a.before + a.after + 1 == 5) return fast ? run<true, 5>(a) : run<false, 5>(a);
  fast ? run<true, 0>(a) : run<false, 0>(a);
}

}  // namespace FT_ISA
}  // namespace ft
