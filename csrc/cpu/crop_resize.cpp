// Bilinear windows of one 8-bit frame, rows kept and reused.
//
// Each window has one table per axis (first tap, weight of the second). A source row is resampled
// horizontally once and kept: while the window grows, the next output rows find both of their
// source rows ready and cost one blend. The horizontal pass is split in two: one fetches both taps of
// a pixel as one word, of two neighbours with one load and one shuffle where the instruction set has
// it and they lie close enough; the other, over the fetched words, has no gather in it, so that it
// vectorises on every instruction set.
#include "crop_resize.h"

#include "cpu/frame_blocks.h"
#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kPad = 16;            // floats: rows of scratch stay whole vectors
constexpr int64_t kOverread = 16;       // bytes fetched from a pixel on, whatever it uses
constexpr int64_t kParallelPx = 65536;  // output pixels, of some 60 µs: below, waking threads costs more

int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// First tap and weight of the second for n samples of [start, start + extent) on an axis of `size`
// pixels with centres at integers. Outside: "constant" meets one black pixel on either side,
// "replicate" stops at the outermost centres.
void axis_table(double start, double extent, int64_t n, int64_t size, bool constant, int32_t* tap, float* weight) {
  const double step = extent / static_cast<double>(n);
  const double low = constant ? -1.0 : 0.0;
  const double high = static_cast<double>(constant ? size : size - 1);
  for (int64_t j = 0; j < n; ++j) {
    double u = start + (static_cast<double>(j) + 0.5) * step - 0.5;
    u = u < low ? low : (u > high ? high : u);
    int32_t first = static_cast<int32_t>(__builtin_floor(u));
    // At the far edge of a replicated axis the pair ends with the last pixel: no tap off the row.
    if (!constant && size > 1 && first > size - 2) first = static_cast<int32_t>(size - 2);
    tap[j] = first;
    weight[j] = static_cast<float>(u - first);
  }
}

struct Scratch {
  int32_t *tap_x, *tap_y, *at;  // first taps, and the byte of each column's first tap in the row
  float *weight_x, *weight_y, *rows;
  uint32_t *low, *high;  // the bytes fetched for each column
  uint64_t* shuffles;    // two per pair of columns
  uint8_t* line;         // one packed source row

  Scratch(const CropResizeArgs& a, Carver& c) {
    const int64_t m = padded(a.out_w);
    tap_x = c.take<int32_t>(m);
    tap_y = c.take<int32_t>(a.out_h);
    at = c.take<int32_t>(m);
    weight_x = c.take<float>(m);
    weight_y = c.take<float>(a.out_h);
    rows = c.take<float>(2 * a.channels * m);
    low = c.take<uint32_t>(m);
    high = c.take<uint32_t>(m);
    shuffles = c.take<uint64_t>(m);
    line = c.take<uint8_t>(a.channels * (a.width + 4) + kOverread);
  }
};

// Source row y from pixel `begin` to `end` (exclusive) as packed bytes with kOverread to spare.
const uint8_t* packed_row(const CropResizeArgs& a, int64_t y, int64_t begin, int64_t end, uint8_t* line) {
  const uint8_t* row = a.frame + y * a.stride_y;
  const bool packed = a.stride_c == 1 && a.stride_x == a.channels;
  const int64_t last = (a.height - 1) * a.stride_y + a.width * a.channels;
  const int64_t reach = y * a.stride_y + (end - 2) * a.channels + kOverread;
  if (packed && begin >= 0 && end <= a.width && reach <= last) return row + begin * a.channels;
  const int64_t from = begin < 0 ? 0 : begin;
  const int64_t to = end > a.width ? a.width : end;
  std::memset(line, 0, (end - begin) * a.channels);
  uint8_t* to_px = line + (from - begin) * a.channels;
  if (packed) {
    if (to > from) std::memcpy(to_px, row + from * a.channels, (to - from) * a.channels);
    return line;
  }
  for (int64_t x = from; x < to; ++x)
    for (int64_t c = 0; c < a.channels; ++c) *to_px++ = row[x * a.stride_x + c * a.stride_c];
  return line;
}

// The shuffles that bring r g b r | g b – – of either column of a pair to [first, second | first, second], in the
// order in which `fetch_pairs` reads them. False where the columns of a pair lie too far apart for one load.
bool pair_shuffles(const int32_t* at, int64_t m, uint64_t* shuffles) {
  for (int64_t j = 0; j < m; j += 2) {
    const auto apart = static_cast<uint64_t>(at[j + 1] - at[j]);
    if (apart > 9) return false;
    const int64_t pair = j / 2 % 4;
    uint64_t* to = shuffles + j / 8 * 8 + pair % 2 * 4 + pair / 2 * 2;
    to[0] = 0x0302010003020100 + (apart * 0x01010101 << 32);
    to[1] = 0x8080050480800504 + (apart * 0x0101 << 32);
  }
  return true;
}

// Of each column the bytes r g b r (low) and g b (high) of its two taps.
void fetch(const uint8_t* row, int64_t n, const int32_t* __restrict at, uint32_t* __restrict low,
           uint32_t* __restrict high) {
  for (int64_t j = 0; j < n; ++j) {
    uint64_t word;
    std::memcpy(&word, row + at[j], sizeof word);
    low[j] = static_cast<uint32_t>(word);
    high[j] = static_cast<uint32_t>(word >> 32);
  }
}

#if FT_ISA_LEVEL >= 1
constexpr bool kShuffles = true;

void fetch_pairs(const uint8_t* row, int64_t m, const int32_t* __restrict at, const uint64_t* __restrict shuffles,
                 uint32_t* __restrict low, uint32_t* __restrict high) {
  const auto half = [=](int64_t j) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + at[j])); };
  const auto both = [=](int64_t j) { return _mm256_inserti128_si256(_mm256_castsi128_si256(half(j)), half(j + 4), 1); };
  for (int64_t j = 0; j < m; j += 8) {
    const auto* shuffle = reinterpret_cast<const __m256i*>(shuffles + j);
    const __m256i even = _mm256_shuffle_epi8(both(j), _mm256_load_si256(shuffle));
    const __m256i odd = _mm256_shuffle_epi8(both(j + 2), _mm256_load_si256(shuffle + 1));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + j), _mm256_unpacklo_epi64(even, odd));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(high + j), _mm256_unpackhi_epi64(even, odd));
  }
}
#else
constexpr bool kShuffles = false;

void fetch_pairs(const uint8_t*, int64_t, const int32_t*, const uint64_t*, uint32_t*, uint32_t*) {}
#endif

void resample_rgb(const uint32_t* __restrict low, const uint32_t* __restrict high, int64_t n,
                  const float* __restrict weight, const float* gain, const float* offset, float* __restrict out) {
  const int64_t m = padded(n);
  float* __restrict red = out;
  float* __restrict green = out + m;
  float* __restrict blue = out + 2 * m;
  const float gr = gain[0], gg = gain[1], gb = gain[2];
  const float sr = offset[0], sg = offset[1], sb = offset[2];
#pragma omp simd
  for (int64_t j = 0; j < m; ++j) {
    const int32_t a = static_cast<int32_t>(low[j]), b = static_cast<int32_t>(high[j]);
    const float r0 = static_cast<float>(a & 255), r1 = static_cast<float>((a >> 24) & 255);
    const float g0 = static_cast<float>((a >> 8) & 255), g1 = static_cast<float>(b & 255);
    const float b0 = static_cast<float>((a >> 16) & 255), b1 = static_cast<float>((b >> 8) & 255);
    const float w = weight[j];
    red[j] = (r0 + w * (r1 - r0)) * gr + sr;
    green[j] = (g0 + w * (g1 - g0)) * gg + sg;
    blue[j] = (b0 + w * (b1 - b0)) * gb + sb;
  }
}

void resample_grey(const uint8_t* row, int64_t n, const int32_t* __restrict at, const float* __restrict weight,
                   float gain, float offset, uint32_t* __restrict low, float* __restrict out) {
  for (int64_t j = 0; j < n; ++j) {
    uint16_t word;
    std::memcpy(&word, row + at[j], sizeof word);
    low[j] = word;
  }
  const int64_t m = padded(n);
#pragma omp simd
  for (int64_t j = 0; j < m; ++j) {
    const int32_t a = static_cast<int32_t>(low[j]);
    const float v0 = static_cast<float>(a & 255), v1 = static_cast<float>(a >> 8);
    out[j] = (v0 + weight[j] * (v1 - v0)) * gain + offset;
  }
}

void blend(const float* __restrict a, const float* __restrict b, float weight, int64_t n, float* __restrict out) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) out[j] = a[j] + weight * (b[j] - a[j]);
}

// Output rows [row0, row1) of window k.
void crop_rows(const CropResizeArgs& a, int64_t k, int64_t row0, int64_t row1, const Scratch& s) {
  const double* box = a.boxes + 4 * k;
  axis_table(box[0], box[2], a.out_w, a.width, a.constant, s.tap_x, s.weight_x);
  axis_table(box[1], box[3], a.out_h, a.height, a.constant, s.tap_y, s.weight_y);
  const int64_t begin = s.tap_x[0], end = s.tap_x[a.out_w - 1] + 2;
  const int64_t m = padded(a.out_w), plane = a.out_h * a.out_w;
  for (int64_t j = 0; j < m; ++j) {
    const int64_t column = j < a.out_w ? j : a.out_w - 1;
    s.at[j] = static_cast<int32_t>((s.tap_x[column] - begin) * a.channels);
  }
  const bool pairs = kShuffles && a.channels == 3 && pair_shuffles(s.at, m, s.shuffles);

  float* slot[2] = {s.rows, s.rows + a.channels * m};
  constexpr int64_t kNone = INT64_MIN;
  int64_t held[2] = {kNone, kNone};
  const auto fill = [&](int i, int64_t y) {
    if (held[i] == y) return;
    held[i] = y;
    if (y < 0 || y >= a.height) {
      for (int64_t c = 0; c < a.channels; ++c)
        for (int64_t j = 0; j < m; ++j) slot[i][c * m + j] = a.offset[c];
      return;
    }
    const uint8_t* row = packed_row(a, y, begin, end, s.line);
    if (a.channels == 1) {
      resample_grey(row, a.out_w, s.at, s.weight_x, a.gain[0], a.offset[0], s.low, slot[i]);
      return;
    }
    if (pairs)
      fetch_pairs(row, m, s.at, s.shuffles, s.low, s.high);
    else
      fetch(row, a.out_w, s.at, s.low, s.high);
    resample_rgb(s.low, s.high, a.out_w, s.weight_x, a.gain, a.offset, slot[i]);
  };
  for (int64_t i = row0; i < row1; ++i) {
    const int64_t y = s.tap_y[i];
    const float w = s.weight_y[i];
    if (held[1] == y) {
      float* const rows = slot[0];
      slot[0] = slot[1];
      slot[1] = rows;
      held[1] = held[0];
      held[0] = y;
    }
    fill(0, y);
    if (w != 0.0f) fill(1, y + 1);
    const float* second = w != 0.0f ? slot[1] : slot[0];
    float* out = a.out + k * a.channels * plane + i * a.out_w;
    for (int64_t c = 0; c < a.channels; ++c) blend(slot[0] + c * m, second + c * m, w, a.out_w, out + c * plane);
  }
}

// The windows that `whole` shrinks by `shrink`, from the frame and the boxes of `a`.
void crop_windows(const CropResizeArgs& a, const CropResizeArgs& whole, int64_t shrink) {
  const int threads = a.count * a.out_h * a.out_w < kParallelPx ? 1 : max_threads();
  const int64_t bands = a.count >= 2 * threads ? 1 : (2 * threads < a.out_h ? 2 * threads : a.out_h);
  hint_huge_pages(a.out, a.count * a.channels * a.out_h * a.out_w * static_cast<int64_t>(sizeof(float)));
  PerThread<Scratch> scratch(threads, a);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t item = 0; item < a.count * bands; ++item) {
    const int64_t k = item / bands, band = item % bands;
    if (shrink_of(whole, whole.boxes + 4 * k) != shrink) continue;
    crop_rows(a, k, band * a.out_h / bands, (band + 1) * a.out_h / bands, scratch.of(thread_index(), a));
  }
}

// The least shrink of a window above `done`, or 0.
int64_t next_shrink(const CropResizeArgs& a, int64_t done) {
  int64_t least = 0;
  for (int64_t k = 0; k < a.count; ++k) {
    const int64_t shrink = shrink_of(a, a.boxes + 4 * k);
    if (shrink > done && (least == 0 || shrink < least)) least = shrink;
  }
  return least;
}

// The frame in blocks, where windows see it, and the boxes in px of that.
struct Blocks {
  uint8_t* px;
  double* boxes;
  Blocks(int64_t bytes, int64_t count, Carver& c) : px(c.take<uint8_t>(bytes)), boxes(c.take<double>(4 * count)) {}
};

// The windows that are shrunk by `shrink` ≥ 2: only what they see is averaged, once for all of them.
void crop_averaged(const CropResizeArgs& a, int64_t shrink) {
  const auto side = static_cast<double>(shrink);
  double low[2] = {__builtin_inf(), __builtin_inf()}, high[2] = {-__builtin_inf(), -__builtin_inf()};
  for (int64_t k = 0; k < a.count; ++k) {
    const double* box = a.boxes + 4 * k;
    if (shrink_of(a, box) != shrink) continue;
    for (int i = 0; i < 2; ++i) {
      const double begin = box[i] / side, end = (box[i] + box[i + 2]) / side;
      low[i] = begin < low[i] ? begin : low[i];
      high[i] = end > high[i] ? end : high[i];
    }
  }
  const Span across(low[0], high[0], a.width / shrink), down(low[1], high[1], a.height / shrink);
  CropResizeArgs part = a;
  part.height = down.last - down.first, part.width = across.last - across.first;
  part.stride_y = part.width * a.channels, part.stride_x = a.channels, part.stride_c = 1;
  const int64_t bytes = part.height * part.stride_y, count = a.count;
  PerThread<Blocks, false> memory(1, bytes, count);
  const Blocks blocks = memory.of(0, bytes, count);
  average_blocks({a.frame, a.stride_y, a.stride_x, a.stride_c, a.channels, shrink, down.first, down.last, across.first,
                  across.last, blocks.px});
  for (int64_t k = 0; k < count; ++k) {
    const double *from = a.boxes + 4 * k,
                 origin[4] = {static_cast<double>(across.first), static_cast<double>(down.first), 0.0, 0.0};
    for (int i = 0; i < 4; ++i) blocks.boxes[4 * k + i] = from[i] / side - origin[i];
  }
  part.frame = blocks.px, part.boxes = blocks.boxes;
  crop_windows(part, a, shrink);
}

}  // namespace

void crop_resize(const CropResizeArgs& a) {
  for (int64_t shrink = next_shrink(a, 0); shrink > 0; shrink = next_shrink(a, shrink)) {
    if (shrink == 1)
      crop_windows(a, a, 1);
    else
      crop_averaged(a, shrink);
  }
}

}  // namespace FT_ISA
}  // namespace ft
