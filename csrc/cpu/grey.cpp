// Log brightness of cells, brought to mean 0 and deviation 1: three passes over a map that stays in cache.
//
// Sums run in double over l − l[0]: a flat patch has spread exactly 0.
#include "grey.h"

#include <cstring>

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kParallelPx = 65536;
constexpr double kFlattest = 1e-5;  // deviation up to which there is nothing but rounding

// Natural logarithm of normal x > 0 to 1e-7 of the larger of itself and 1; NaN elsewhere.
// x = 2^e m with m in [√½, √2); log m = 2 artanh((m − 1) / (m + 1)), whose series has odd powers only.
FT_INLINE float log_of(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const int32_t e = (bits - 0x3f3504f3) >> 23;  // of √½
  bits -= e * (1 << 23);
  float m;
  std::memcpy(&m, &bits, sizeof m);
  const float s = (m - 1.0f) / (m + 1.0f), q = s * s;
  const float series = 2.0f + q * (0.66666667f + q * (0.4f + q * (0.28571429f + q * 0.22222222f)));
  const float value = static_cast<float>(e) * 0.69314718f + s * series;
  return x > 0.0f && x < __builtin_inff() ? value : __builtin_nanf("");
}

// Means over the channels of row y.
void mean_of_pixels(const GreyArgs& a, const float* row, float* __restrict out) {
  if (a.channels == 1) {
    for (int64_t j = 0; j < a.width; ++j) out[j] = row[j];
    return;
  }
  const float* green = row + a.stride_channel;
  const float* blue = green + a.stride_channel;
#pragma omp simd
  for (int64_t j = 0; j < a.width; ++j) out[j] = (row[j] + green[j] + blue[j]) * (1.0f / 3.0f);
}

// Means over the channels and pixels of the cells in row i.
void mean_of_cells(const GreyArgs& a, const float* rows, int64_t columns, float* __restrict out) {
  const float share = 1.0f / static_cast<float>(a.channels * a.cell * a.cell);
  for (int64_t j = 0; j < columns; ++j) out[j] = 0.0f;
  for (int64_t c = 0; c < a.channels; ++c)
    for (int64_t y = 0; y < a.cell; ++y) {
      const float* row = rows + c * a.stride_channel + y * a.stride_row;
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t x = 0; x < a.cell; ++x) out[j] += row[j * a.cell + x];
    }
  for (int64_t j = 0; j < columns; ++j) out[j] *= share;
}

void even_out(const GreyArgs& a, int64_t t) {
  const int64_t rows = a.height / a.cell, columns = a.width / a.cell, cells = rows * columns;
  float* const out = a.out + t * cells;
  for (int64_t i = 0; i < rows; ++i) {
    const float* from = a.patches + t * a.stride_patch + i * a.cell * a.stride_row;
    float* const to = out + i * columns;
    if (a.cell == 1)
      mean_of_pixels(a, from, to);
    else
      mean_of_cells(a, from, columns, to);
  }
  double sum = 0.0, square = 0.0;
#pragma omp simd
  for (int64_t k = 0; k < cells; ++k) out[k] = log_of(1.0f + out[k]);
  const float origin = out[0];
#pragma omp simd reduction(+ : sum, square)
  for (int64_t k = 0; k < cells; ++k) {
    const double d = static_cast<double>(out[k]) - static_cast<double>(origin);
    sum += d;
    square += d * d;
  }
  const double n = static_cast<double>(cells), mean = sum / n;
  const double spread = square / n - mean * mean;  // negative only by rounding; NaN where a cell is
  const bool flat = spread <= kFlattest * kFlattest;
  const float middle = static_cast<float>(mean);
  const float gain = flat ? 0.0f : static_cast<float>(1.0 / __builtin_sqrt(spread));
#pragma omp simd
  for (int64_t k = 0; k < cells; ++k) out[k] = (out[k] - origin - middle) * gain;
}

}  // namespace

void grey(const GreyArgs& a) {
  const bool threads = a.count > 1 && a.count * a.height * a.width >= kParallelPx;
#pragma omp parallel for schedule(static) if (threads)
  for (int64_t t = 0; t < a.count; ++t) even_out(a, t);
}

}  // namespace FT_ISA
}  // namespace ft
