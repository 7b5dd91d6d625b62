// relu → LRN → max-pool 3/2 in one pass, every value normalised once.
//
// Behind the ReLU the largest y is where y² is largest, and y² = v²·s^−3/2 needs but the square of v and one
// reciprocal square root (an estimate and one Newton step): the root of y² is taken after the pool, for one
// value in four. Rows go in pairs: of an output row's three, the first is the last one of the row before,
// kept normalised. Squares stay in registers: with channels last the window of channels is made of shifted
// vectors, with planes it slides from one channel to the next.
//
// Compared as unsigned integers the largest of y² is a NaN if there is one, of either sign.
#include "cpu/lrn_pool.h"

#include "cpu/lrn_five.h"
#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {
namespace {

typedef uint32_t vu __attribute__((vector_size(FT_LANES * 4)));

constexpr int64_t kParallelFrom = 1 << 15;       // elements below which threads cost more than they give
constexpr int64_t kChunk = 32;                   // planes at once: two rows of each stay in the first cache
constexpr float kLeast = 1e-14f, kMost = 1e36f;  // of the largest y²

int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }
int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

FT_INLINE vf larger(vf a, vf b) { return (vf)((vu)a > (vu)b ? (vu)a : (vu)b); }

// y² of n vectors from v² and, in z, the sums of squares.
template <int n>
FT_INLINE void squares_of_y(const FiveConstants& k, const vf* square, vf* z) {
  vf root[n], t[n];
  roots<n>(k, z, root);
  for (int i = 0; i < n; ++i) t[i] = square[i] * root[i];
  for (int i = 0; i < n; ++i) root[i] = root[i] * root[i];
  for (int i = 0; i < n; ++i) z[i] = t[i] * root[i];
}

FT_INLINE vf square_root(vf v) {
  for (int i = 0; i < FT_LANES; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}

struct Scratch {
  float *edge, *top;  // y² of the last row; what is known of the windows at hand
  float* squares;

  Scratch(const LrnArgs& a, Carver& c) {
    const int64_t row = padded(a.width) + 2 * FT_LANES;
    edge = c.take<float>(a.channels * (a.channels_last ? a.width : row));
    top = c.take<float>(a.channels_last ? a.channels : least(kChunk, a.channels) * row);
    squares = c.take<float>(a.channels_last ? 0 : (a.channels + 4) * 2 * FT_LANES);
  }
};

// Calls f(c, z) for every vector of channels of a pixel, z its y² in two rows `row` floats apart.
template <class F>
FT_INLINE void each_pixel(const FiveConstants& k, const float* x, int64_t row, int64_t channels, const F& f) {
  each_vector<true>(x, row, channels, [&](auto n, int64_t c, const vf* square, vf* z) {
    squares_of_y<2 * n>(k, square, z);
    for (int i = 0; i < n; ++i) f(c + i * FT_LANES, z + 2 * i);
  });
}

enum class Column { first, odd, even };  // an even column ends a window and begins the next

// One column of two rows `row` floats apart. Returns the largest result, lane by lane.
template <Column column>
FT_INLINE vf pool_column(const FiveConstants& k, const float* x, int64_t row, int64_t channels, float* edge, float* top,
                         float* out, vf peak) {
  each_pixel(k, x, row, channels, [&](int64_t c, const vf* z) {
    const vf three = larger(larger(load(edge + c), z[0]), z[1]);
    store(edge + c, z[1]);
    if (column == Column::first) return store(top + c, three);
    const vf highest = larger(load(top + c), three);
    store(top + c, column == Column::odd ? highest : three);
    if (column == Column::odd) return;
    peak = larger(peak, highest);
    store(out + c, square_root(highest));
  });
  return peak;
}

// Output rows [begin, end) of one image, channels last.
vf pool_pixels(const LrnArgs& a, int64_t image, int64_t begin, int64_t end, const Scratch& s, vf peak) {
  const FiveConstants k{a};
  const int64_t channels = a.channels, row = a.width * channels;
  const float* x = a.x + (image * a.height + 2 * begin) * row;
  float* out = a.out + (image * a.out_h + begin) * a.out_w * channels;
  for (int64_t at = 0; at <= 2 * a.out_w; ++at)
    each_pixel(k, x + at * channels, 0, channels,
               [&](int64_t c, const vf* z) { store(s.edge + at * channels + c, *z); });
  for (int64_t i = begin; i < end; ++i) {
    x += row;
    peak = pool_column<Column::first>(k, x, row, channels, s.edge, s.top, out, peak);
    for (int64_t j = 0; j < a.out_w; ++j) {
      const int64_t odd = (2 * j + 1) * channels, even = odd + channels;
      peak = pool_column<Column::odd>(k, x + odd, row, channels, s.edge + odd, s.top, out, peak);
      peak = pool_column<Column::even>(k, x + even, row, channels, s.edge + even, s.top, out, peak);
      out += channels;
    }
    x += row;
  }
  return peak;
}

// Calls f(c, z) for channels [begin, end) of FT_LANES pixels in each of two rows `row` floats apart. `squares` holds
// two vectors for each of four channels more.
template <class F>
FT_INLINE void each_plane(const LrnArgs& a, const FiveConstants& k, const float* x, int64_t row, int64_t begin,
                          int64_t end, float* squares, const F& f) {
  const int64_t channels = a.channels, plane = a.height * a.width;
  float* to = squares;
  for (int64_t c = begin - 2; c < end + 2; ++c) {
    for (int r = 0; r < 2; ++r, to += FT_LANES)
      store(to, c >= 0 && c < channels ? square_of<true>(x + c * plane + r * row) : vf{});
  }
  constexpr int kStep = 2 * FT_LANES;
  const auto at = [](const float* q, int i, int r) { return load(q + i * kStep + r * FT_LANES); };
  const float* q = squares + 2 * kStep;
  vf z[4], square[4];
  int64_t c = begin;
  for (; c + 1 < end; c += 2, q += 2 * kStep) {
    for (int r = 0; r < 2; ++r) {
      square[r] = at(q, 0, r);
      square[2 + r] = at(q, 1, r);
      const vf common = (at(q, -1, r) + square[r]) + (square[2 + r] + at(q, 2, r));
      z[r] = common + at(q, -2, r);
      z[2 + r] = common + at(q, 3, r);
    }
    squares_of_y<4>(k, square, z);
    f(c, z);
    f(c + 1, z + 2);
  }
  if (c == end) return;
  for (int r = 0; r < 2; ++r) {
    square[r] = at(q, 0, r);
    z[r] = (at(q, -1, r) + square[r]) + (at(q, 1, r) + at(q, 2, r)) + at(q, -2, r);
  }
  squares_of_y<2>(k, square, z);
  f(c, z);
}

// Largest of every second three along a row of 2n + 1, which may be read for another two vectors.
FT_INLINE vf pool_row(const float* from, int64_t n, float* out, vf peak) {
  const auto vector = [&](int64_t j) {
    const float* at = from + 2 * j;
    const auto three = [](const float* p) { return larger(larger(load(p), load(p + 1)), load(p + 2)); };
    return picked<0, 2>(three(at), three(at + FT_LANES), Lanes{});
  };
  for (int64_t j = 0; j < n; j += FT_LANES) {
    const int64_t at = j + FT_LANES <= n || n < FT_LANES ? j : n - FT_LANES;
    const vf z = vector(at), y = square_root(z);
    if (n < FT_LANES) {
      vf known = {};
      std::memcpy(&known, &z, n * sizeof(float));
      std::memcpy(out, &y, n * sizeof(float));
      return larger(peak, known);
    }
    store(out + at, y);
    peak = larger(peak, z);
  }
  return peak;
}

// Output rows [begin, end) of one image of planes. Vectors of pixels have a place of their own in `edge`: the last
// one of a row overlaps the one before it.
vf pool_planes(const LrnArgs& a, int64_t image, int64_t begin, int64_t end, const Scratch& s, vf peak) {
  const FiveConstants k{a};
  const int64_t plane = a.height * a.width, out_plane = a.out_h * a.out_w;
  const int64_t row = padded(a.width) + 2 * FT_LANES, vectors = (a.width + FT_LANES - 1) / FT_LANES;
  const float* x = a.x + image * a.channels * plane + 2 * begin * a.width;
  const auto pixel = [&](int64_t v) { return least(v * FT_LANES, a.width - FT_LANES); };
  for (int64_t v = 0; v < vectors; ++v)
    each_plane(a, k, x + pixel(v), 0, 0, a.channels, s.squares,
               [&](int64_t c, const vf* z) { store(s.edge + c * row + v * FT_LANES, z[0]); });
  for (int64_t i = begin; i < end; ++i, x += 2 * a.width) {
    for (int64_t first = 0; first < a.channels; first += kChunk) {
      const int64_t last = least(first + kChunk, a.channels);
      for (int64_t v = 0; v < vectors; ++v) {
        float* edge = s.edge + v * FT_LANES;
        float* top = s.top + pixel(v) - first * row;
        each_plane(a, k, x + a.width + pixel(v), a.width, first, last, s.squares, [&](int64_t c, const vf* z) {
          store(top + c * row, larger(larger(load(edge + c * row), z[0]), z[1]));
          store(edge + c * row, z[1]);
        });
      }
      float* out = a.out + (image * a.channels + first) * out_plane + i * a.out_w;
      for (int64_t c = first; c < last; ++c, out += out_plane)
        peak = pool_row(s.top + (c - first) * row, a.out_w, out, peak);
    }
  }
  return peak;
}

}  // namespace

bool lrn_pool_takes(const LrnArgs& a) {
  const auto whole = [](int64_t n, int64_t out) { return out == (n - 3) / 2 + 1; };
  if (a.pool != 3 || a.stride != 2 || !whole(a.height, a.out_h) || !whole(a.width, a.out_w)) return false;
  if (a.before != 2 || a.after != 2 || a.beta != 0.75f) return false;
  // So far y² and what it is made of are normal numbers, unless the values are out of all proportion.
  if (!(a.k >= 1e-12f && a.k <= 1e12f && a.alpha <= 1.0f)) return false;
  return a.channels_last ? a.channels % FT_LANES == 0 : a.width >= FT_LANES;
}

bool lrn_pool(const LrnArgs& a) {
  const int threads = a.count * a.channels * a.height * a.width < kParallelFrom ? 1 : max_threads();
  const int64_t bands = threads == 1 || a.count >= 2 * threads ? 1 : least(2 * threads, a.out_h);
  PerThread<Scratch, false> scratch(threads, a);
  uint32_t peak = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(max : peak)
  for (int64_t item = 0; item < a.count * bands; ++item) {
    const int64_t image = item / bands, band = item % bands;
    const int64_t begin = band * a.out_h / bands, end = (band + 1) * a.out_h / bands;
    const Scratch s = scratch.of(thread_index(), a);
    const vf highest =
        a.channels_last ? pool_pixels(a, image, begin, end, s, vf{}) : pool_planes(a, image, begin, end, s, vf{});
    for (int i = 0; i < FT_LANES; ++i) peak = peak > ((vu)highest)[i] ? peak : ((vu)highest)[i];
  }
  float most;
  std::memcpy(&most, &peak, sizeof most);
  return most >= kLeast && most <= kMost;  // neither holds for a NaN
}

}  // namespace FT_ISA
}  // namespace ft
