// Peak, sub-cell position and peak-to-sidelobe ratio of response maps, in one pass over each.
//
// Every row leaves its maximum behind; only the winning row is looked at again (it is still in
// cache) for the column. Sums run in double over v − v[0]: a flat map has spread exactly 0.
#include "response_peak.h"

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kParallelCells = 65536;

struct RowSums {
  float top;
  double sum, square;
  bool nan;
};

RowSums scan_row(const float* row, int64_t n, float origin) {
  float top = -__builtin_inff();
  double sum = 0.0, square = 0.0;
  int nan = 0;
#pragma omp simd reduction(max : top) reduction(+ : sum, square) reduction(| : nan)
  for (int64_t j = 0; j < n; ++j) {
    const float v = row[j];
    top = v > top ? v : top;
    nan |= v != v;
    const double d = static_cast<double>(v) - static_cast<double>(origin);
    sum += d;
    square += d * d;
  }
  return {top, sum, square, nan != 0};
}

// Top of the parabola through three neighbours, relative to the middle one.
double parabola_shift(double before, double top, double after) {
  const double bend = before - 2.0 * top + after;
  if (!(bend < 0.0) || __builtin_isinf(bend)) return 0.0;  // flat, or a neighbour is infinite
  const double shift = 0.5 * (before - after) / bend;
  return shift < -0.5 ? -0.5 : (shift > 0.5 ? 0.5 : shift);
}

void peak_of_map(const ResponsePeakArgs& a, int64_t t) {
  const float* map = a.maps + t * a.stride_map;
  float* const out = a.out + 4 * t;
  const float origin = map[0];
  float top = -__builtin_inff();
  double sum = 0.0, square = 0.0;
  bool nan = false;
  int64_t row = 0;
  for (int64_t i = 0; i < a.height; ++i) {
    const RowSums s = scan_row(map + i * a.stride_row, a.width, origin);
    if (s.top > top) {
      top = s.top;
      row = i;
    }
    sum += s.sum;
    square += s.square;
    nan = nan || s.nan;
  }
  if (nan) {
    for (int i = 0; i < 4; ++i) out[i] = __builtin_nanf("");
    return;
  }
  const float* line = map + row * a.stride_row;
  int64_t column = 0;
  while (column + 1 < a.width && line[column] != top) ++column;
  double y = static_cast<double>(row), x = static_cast<double>(column);
  if (row > 0 && row + 1 < a.height) y += parabola_shift(line[column - a.stride_row], top, line[column + a.stride_row]);
  if (column > 0 && column + 1 < a.width) x += parabola_shift(line[column - 1], top, line[column + 1]);
  const double n = static_cast<double>(a.height * a.width);
  const double mean = sum / n;
  const double spread = square / n - mean * mean;  // negative only by rounding; NaN when infinite
  const double above = static_cast<double>(top) - origin - mean;
  out[0] = static_cast<float>(y);
  out[1] = static_cast<float>(x);
  out[2] = top;
  out[3] = spread <= 0.0 ? 0.0f : static_cast<float>(above / __builtin_sqrt(spread));
}

}  // namespace

void response_peak(const ResponsePeakArgs& a) {
  const bool threads = a.count > 1 && a.count * a.height * a.width >= kParallelCells;
#pragma omp parallel for schedule(static) if (threads)
  for (int64_t t = 0; t < a.count; ++t) peak_of_map(a, t);
}

}  // namespace FT_ISA
}  // namespace ft
