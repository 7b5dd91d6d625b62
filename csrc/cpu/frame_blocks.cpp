// Means of blocks of px: first down the columns, where everything vectorises, then across, one pixel per vector.
#include "cpu/frame_blocks.h"

#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kParallelBytes = 1 << 19;  // some 60 µs: below, waking threads costs more
constexpr int64_t kOverread = 16;            // words fetched from a pixel on, whatever it uses

typedef uint16_t words __attribute__((vector_size(16)));
typedef uint8_t octets __attribute__((vector_size(8)));
typedef uint16_t pixel16 __attribute__((vector_size(8)));
typedef uint32_t pixel32 __attribute__((vector_size(16)));

template <class T>
FT_INLINE T fetch(const uint16_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

struct Scratch {
  uint16_t* sums;  // of the columns of a row of blocks
  uint8_t* line;   // one packed row of px
  explicit Scratch(const FrameBlocks& a, Carver& c)
      : sums(c.take<uint16_t>((a.right - a.left) * a.side * a.channels + kOverread)),
        line(c.take<uint8_t>((a.right - a.left) * a.side * a.channels)) {}
};

const uint8_t* packed_row(const FrameBlocks& a, int64_t y, uint8_t* line) {
  const uint8_t* row = a.frame + y * a.stride_y + a.left * a.side * a.stride_x;
  if (a.stride_x == a.channels && (a.stride_c == 1 || a.channels == 1)) return row;
  uint8_t* to = line;
  for (int64_t x = 0; x < (a.right - a.left) * a.side; ++x)
    for (int64_t c = 0; c < a.channels; ++c) *to++ = row[x * a.stride_x + c * a.stride_c];
  return line;
}

void sum_columns(const FrameBlocks& a, int64_t i, const Scratch& s) {
  const int64_t bytes = (a.right - a.left) * a.side * a.channels;
  uint16_t* const __restrict sums = s.sums;
  for (int64_t q = 0; q < a.side; ++q) {
    const uint8_t* row = packed_row(a, (a.top + i) * a.side + q, s.line);
    if (q == 0) {
      for (int64_t x = 0; x < bytes; ++x) sums[x] = row[x];
    } else {
      for (int64_t x = 0; x < bytes; ++x) sums[x] = static_cast<uint16_t>(sums[x] + row[x]);
    }
  }
}

// Blocks of 2 × 2 px of three channels: four bytes are written for each, the last of which the next one overwrites.
void halve(const uint16_t* sums, int64_t count, uint8_t* out) {
  for (int64_t j = 0; j < count; ++j) {
    const words sum = fetch<words>(sums + 6 * j) + fetch<words>(sums + 6 * j + 3);
    const octets mean = __builtin_convertvector((sum + 2) >> 2, octets);
    std::memcpy(out + 3 * j, &mean, j + 1 < count ? 4 : 3);
  }
}

void mean_across(const FrameBlocks& a, const uint16_t* sums, uint8_t* out) {
  const int64_t count = a.right - a.left;
  if (a.side == 2 && a.channels == 3) return halve(sums, count, out);
  // ⌊(2 sum + n) / 2n⌋ by a product: 2 sum + n is below 2^25, so that what the factor is too large by never shows.
  const auto n = static_cast<uint64_t>(a.side * a.side);
  const uint64_t factor = ((uint64_t{1} << 50) + 2 * n - 1) / (2 * n);
  const auto mean = [=](uint32_t sum) { return static_cast<uint8_t>((2 * uint64_t{sum} + n) * factor >> 50); };
  for (int64_t j = 0; j < count; ++j, sums += a.side * a.channels) {
    if (a.channels == 1) {
      uint32_t sum = 0;
      for (int64_t q = 0; q < a.side; ++q) sum += sums[q];
      *out++ = mean(sum);
      continue;
    }
    pixel32 sum{};
    for (int64_t q = 0; q < a.side; ++q) sum += __builtin_convertvector(fetch<pixel16>(sums + 3 * q), pixel32);
    for (int c = 0; c < 3; ++c) *out++ = mean(sum[c]);
  }
}

}  // namespace

void average_blocks(const FrameBlocks& a) {
  const int64_t rows = a.bottom - a.top, row_bytes = (a.right - a.left) * a.channels;
  const int threads = rows * row_bytes * a.side * a.side < kParallelBytes ? 1 : max_threads();
  PerThread<Scratch, false> scratch(threads, a);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < rows; ++i) {
    const Scratch s = scratch.of(thread_index(), a);
    sum_columns(a, i, s);
    mean_across(a, s.sums, a.out + i * row_bytes);
  }
}

}  // namespace FT_ISA
}  // namespace ft
