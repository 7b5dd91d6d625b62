// LRN over five channels with power ¾: y = v·p·√p, p = 1/√s.
//
// Channels last, the squares stay in registers and the window of channels is made of shifted vectors. With planes, a
// ring holds the squares of a block of pixels; two channels at a time share the four squares that both windows have.
#include "cpu/lrn_alone.h"

#include "cpu/lrn_five.h"
#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kBlock = 256;             // planes: pixels at once
constexpr int64_t kPixels = 32;             // channels last: pixels at once, even
constexpr int64_t kRing = 8;                // rows of squares, a power of two ≥ 6
constexpr int64_t kParallelFrom = 1 << 15;  // elements below which threads cost more than they give

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

struct Scratch {
  float* ring;
  Scratch(const LrnArgs& a, Carver& c) { ring = c.take<float>(a.channels_last ? 0 : kRing * kBlock); }
};

// y of n vectors; v − v is NaN where v is infinite, as infinity over infinity is.
template <int n>
FT_INLINE void normalise(const FiveConstants& k, const vf* v, const vf* sum, vf* y) {
  vf p[n];
  roots<n>(k, sum, p);
  for (int i = 0; i < n; ++i) {
    vf root = p[i];
    for (int j = 0; j < FT_LANES; ++j) root[j] = __builtin_sqrtf(root[j]);
    y[i] = root;
  }
  for (int i = 0; i < n; ++i) p[i] = p[i] * y[i];
  for (int i = 0; i < n; ++i) y[i] = v[i] * p[i] + (v[i] - v[i]);
}

// `pixels` pixels of contiguous channels, in pairs; a last one without a partner is its own.
void pixel_run(const LrnArgs& a, const float* x, int64_t pixels, float* out) {
  const FiveConstants k{a};
  const int64_t channels = a.channels;
  for (int64_t i = 0; i < pixels; i += 2, x += 2 * channels, out += 2 * channels) {
    const int64_t apart = i + 1 < pixels ? channels : 0;
    each_vector<false>(x, apart, channels, [&](auto n, int64_t c, const vf*, const vf* sum) {
      constexpr int count = 2 * n;
      vf v[count], y[count];
      for (int m = 0; m < count; ++m) v[m] = load(x + c + m / 2 * FT_LANES + m % 2 * apart);
      normalise<count>(k, v, sum, y);
      for (int m = 0; m < count; ++m) store(out + c + m / 2 * FT_LANES + m % 2 * apart, y[m]);
    });
  }
}

// `n` vectors of pixels of two channels; `rows` are those of channels c − 2 … c + 3.
template <int n>
FT_INLINE void two_channels(const FiveConstants& k, const float* const* rows, int64_t pixel, const float* x,
                            int64_t plane, float* out) {
  vf v[2 * n], sum[2 * n], y[2 * n];
  for (int i = 0; i < n; ++i) {
    const int64_t at = pixel + i * FT_LANES;
    const vf common = (load(rows[1] + at) + load(rows[2] + at)) + (load(rows[3] + at) + load(rows[4] + at));
    sum[2 * i] = common + load(rows[0] + at);
    sum[2 * i + 1] = common + load(rows[5] + at);
    v[2 * i] = load(x + at);
    v[2 * i + 1] = load(x + plane + at);
  }
  normalise<2 * n>(k, v, sum, y);
  for (int i = 0; i < n; ++i) {
    store(out + pixel + i * FT_LANES, y[2 * i]);
    store(out + plane + pixel + i * FT_LANES, y[2 * i + 1]);
  }
}

// From FT_LANES to kBlock pixels of all channels.
void plane_block(const LrnArgs& a, const float* x, int64_t pixels, float* out, float* ring) {
  const FiveConstants k{a};
  const int64_t channels = a.channels, plane = a.height * a.width;
  const auto row = [=](int64_t c) { return ring + (c & (kRing - 1)) * kBlock; };
  const auto fill = [=](int64_t c) {
    float* to = row(c);
    if (c < 0 || c >= channels) {
      std::memset(to, 0, kBlock * sizeof(float));
      return;
    }
    const float* from = x + c * plane;
    for (int64_t i = 0; i < pixels; i += FT_LANES) {
      const int64_t at = least(i, pixels - FT_LANES);
      store(to + at, square_of<false>(from + at));
    }
  };
  for (int64_t c = -2; c < 2; ++c) fill(c);
  for (int64_t c = 0; c < channels; c += 2) {
    fill(c + 2);
    fill(c + 3);
    const float* rows[6];
    for (int i = 0; i < 6; ++i) rows[i] = row(c + i - 2);
    int64_t i = 0;
    for (; i + 2 * FT_LANES <= pixels; i += 2 * FT_LANES)
      two_channels<2>(k, rows, i, x + c * plane, plane, out + c * plane);
    for (; i < pixels; i += FT_LANES)
      two_channels<1>(k, rows, least(i, pixels - FT_LANES), x + c * plane, plane, out + c * plane);
  }
}

}  // namespace

bool lrn_alone_takes(const LrnArgs& a) {
  if (a.pool > 0 || a.before != 2 || a.after != 2 || a.beta != 0.75f) return false;
  // So far s is a normal number whatever the values are, and 4s as well.
  if (!(a.k >= 1e-30f && a.k <= 1e37f && a.alpha <= 1e37f)) return false;
  return a.channels_last ? a.channels % FT_LANES == 0 : a.channels % 2 == 0 && a.height * a.width >= 2 * FT_LANES;
}

void lrn_alone(const LrnArgs& a) {
  const int64_t plane = a.height * a.width, pixels = a.count * plane;
  const int threads = pixels * a.channels < kParallelFrom ? 1 : max_threads();
  const int64_t block = a.channels_last ? kPixels : kBlock, per_image = a.channels_last ? pixels : plane;
  const int64_t blocks = (per_image + block - 1) / block;
  PerThread<Scratch, false> scratch(threads, a);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t item = 0; item < pixels / per_image * blocks; ++item) {
    const int64_t image = item / blocks, i = item % blocks;
    if (a.channels_last) {
      const int64_t first = i * block;
      pixel_run(a, a.x + first * a.channels, least(block, pixels - first), a.out + first * a.channels);
    } else {
      // Blocks of about one size: none is shorter than a vector.
      const int64_t first = i * plane / blocks, at = image * a.channels * plane + first;
      plane_block(a, a.x + at, (i + 1) * plane / blocks - first, a.out + at, scratch.of(thread_index(), a).ring);
    }
  }
}

}  // namespace FT_ISA
}  // namespace ft
