// The definition itself, for small kernels called once: transforming the map would cost more than the sum.
#include "conv_regression.h"
#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {
namespace {

using index = std::ptrdiff_t;

constexpr int kVectors = 6;         // accumulators of one stretch of a row
constexpr index kChannelBlock = 8;  // channels summed on their own first: keeps the rounding of long sums down

// `Count` vectors of one response row, from column x on.
template <int Count>
FT_INLINE void stretch(const ConvShape& s, const float* features, const float* weight, float bias, index y, index x,
                       float* out) {
  vf total[Count];
  for (int i = 0; i < Count; ++i) total[i] = splat(bias);
  for (index first = 0; first < s.channels; first += kChannelBlock) {
    const index last = first + kChannelBlock < s.channels ? first + kChannelBlock : s.channels;
    vf sums[Count] = {};
    for (index c = first; c < last; ++c) {
      for (index p = 0; p < s.kernel_h; ++p) {
        const float* row = features + (c * s.height + y + p) * s.width + x;
        const float* w = weight + (c * s.kernel_h + p) * s.kernel_w;
        for (index q = 0; q < s.kernel_w; ++q) {
          for (int i = 0; i < Count; ++i) sums[i] += w[q] * load(row + q + i * FT_LANES);
        }
      }
    }
    for (int i = 0; i < Count; ++i) total[i] += sums[i];
  }
  for (int i = 0; i < Count; ++i) store(out + i * FT_LANES, total[i]);
}

// The columns that fill no vector.
void tail(const ConvShape& s, const float* features, const float* weight, float bias, index y, index x, float* out) {
  float total = bias;
  for (index c = 0; c < s.channels; ++c) {
    float sum = 0;
    for (index p = 0; p < s.kernel_h; ++p) {
      const float* row = features + (c * s.height + y + p) * s.width + x;
      const float* w = weight + (c * s.kernel_h + p) * s.kernel_w;
      for (index q = 0; q < s.kernel_w; ++q) sum += w[q] * row[q];
    }
    total += sum;
  }
  *out = total;
}

}  // namespace

void conv_direct(const ConvDirectArgs& args) {
  const ConvShape& s = args.shape;
  const index rows = s.height - s.kernel_h + 1, columns = s.width - s.kernel_w + 1;
  const float bias = args.bias != nullptr ? *args.bias : 0.0f;
#pragma omp parallel for schedule(static)
  for (index y = 0; y < rows; ++y) {
    float* out = args.response + y * columns;
    index x = 0;
    for (; x + kVectors * FT_LANES <= columns; x += kVectors * FT_LANES) {
      stretch<kVectors>(s, args.features, args.weight, bias, y, x, out + x);
    }
    for (; x + FT_LANES <= columns; x += FT_LANES) stretch<1>(s, args.features, args.weight, bias, y, x, out + x);
    // The last vector may overlap the one before: the same sums are written twice.
    if (x < columns && columns >= FT_LANES) {
      x = columns - FT_LANES;
      stretch<1>(s, args.features, args.weight, bias, y, x, out + x);
      x = columns;
    }
    for (; x < columns; ++x) tail(s, args.features, args.weight, bias, y, x, out + x);
  }
}

}  // namespace FT_ISA
}  // namespace ft
