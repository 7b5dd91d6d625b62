// Symmetric product of a matrix with its transpose, centred on the way.
//
// kDepth columns at a time are packed into panels of kWide rows, [column][row], which serve as both factors:
// a tile is four rows of one panel against all rows of another, summed in registers (float32), then added to
// the product (float64). Tiles below the diagonal are skipped and mirrored at the end.
#include "pca.h"

#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kTall = 4;     // rows of a tile
constexpr int64_t kVectors = 3;  // vectors of a tile's row: 12 sums and 3 loads fill 16 registers
constexpr int64_t kWide = kVectors * FT_LANES;
constexpr int64_t kDepth = 192;             // columns in a panel
constexpr int64_t kParallelFrom = 1 << 22;  // multiply-adds below which threads cost more than they give

struct Scratch {
  float* panels;
  Scratch(const PcaProductArgs& a, Carver& c) { panels = c.take<float>((a.rows + kWide - 1) / kWide * kWide * kDepth); }
};

// Columns [k0, k0 + n) of the rows of panel p, missing rows as zeros.
void pack(const PcaProductArgs& a, int64_t p, int64_t k0, int64_t n, float* panel) {
  const int64_t first = p * kWide, count = a.rows - first < kWide ? a.rows - first : kWide;
  const float* x = a.x + first * a.row_stride + k0 * a.step;
  if (count < kWide) std::memset(panel, 0, n * kWide * sizeof(float));
  float shift[kWide] = {};
  if (a.row_shift != nullptr) std::memcpy(shift, a.row_shift + first, count * sizeof(float));
  if (a.row_stride == 1) {
    for (int64_t k = 0; k < n; ++k) {
      const float* from = x + k * a.step;
      const float level = a.step_shift != nullptr ? a.step_shift[k0 + k] : 0.0f;
      float* to = panel + k * kWide;
#pragma omp simd
      for (int64_t m = 0; m < count; ++m) to[m] = from[m] - shift[m] - level;
    }
    return;
  }
  constexpr int64_t kStrip = 16;  // columns written at once stay in cache while the rows pass
  for (int64_t strip = 0; strip < n; strip += kStrip) {
    const int64_t end = strip + kStrip < n ? strip + kStrip : n;
    for (int64_t m = 0; m < count; ++m) {
      const float* from = x + m * a.row_stride;
      for (int64_t k = strip; k < end; ++k) {
        const float level = a.step_shift != nullptr ? a.step_shift[k0 + k] : 0.0f;
        panel[k * kWide + m] = from[k * a.step] - shift[m] - level;
      }
    }
  }
}

// product[i][j] += Σ_k left[k][i] · right[k][j] for kTall rows i and kWide columns j (cut to `tall` and `wide`).
void add_tile(const float* left, const float* right, int64_t depth, double* product, int64_t rows, int64_t tall,
              int64_t wide) {
  vf sum[kTall][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    vf b[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) b[v] = load(right + k * kWide + v * FT_LANES);
    for (int64_t i = 0; i < kTall; ++i) {
      const vf a = splat(left[k * kWide + i]);
      for (int64_t v = 0; v < kVectors; ++v) sum[i][v] += a * b[v];
    }
  }
  for (int64_t i = 0; i < tall; ++i) {
    float row[kWide];
    for (int64_t v = 0; v < kVectors; ++v) store(row + v * FT_LANES, sum[i][v]);
    double* to = product + i * rows;
    if (wide == kWide) {
      for (int64_t j = 0; j < kWide; ++j) to[j] += static_cast<double>(row[j]);
    } else {
      for (int64_t j = 0; j < wide; ++j) to[j] += static_cast<double>(row[j]);
    }
  }
}

// All rows up to the last of panel p, against panel p.
void add_columns(const PcaProductArgs& a, int64_t p, int64_t depth, const float* panels) {
  const int64_t first = p * kWide, end = first + kWide < a.rows ? first + kWide : a.rows;
  const float* right = panels + p * kWide * kDepth;
  for (int64_t i = 0; i < end; i += kTall) {
    const float* left = panels + i / kWide * kWide * kDepth + i % kWide;
    const int64_t tall = a.rows - i < kTall ? a.rows - i : kTall;
    add_tile(left, right, depth, a.product + i * a.rows + first, a.rows, tall, end - first);
  }
}

}  // namespace

void pca_product(const PcaProductArgs& a) {
  std::memset(a.product, 0, a.rows * a.rows * sizeof(double));
  if (a.rows == 0 || a.length == 0) return;
  const int64_t count = (a.rows + kWide - 1) / kWide;
  const int threads = a.rows * a.rows / 2 * a.length < kParallelFrom ? 1 : max_threads();
  PerThread<Scratch> scratch(1, a);
  float* panels = scratch.of(0, a).panels;
#pragma omp parallel num_threads(threads)
  for (int64_t k0 = 0; k0 < a.length; k0 += kDepth) {
    const int64_t depth = a.length - k0 < kDepth ? a.length - k0 : kDepth;
#pragma omp for schedule(static)
    for (int64_t p = 0; p < count; ++p) pack(a, p, k0, depth, panels + p * kWide * kDepth);
#pragma omp for schedule(dynamic)
    for (int64_t p = 0; p < count; ++p) add_columns(a, count - 1 - p, depth, panels);  // the longest first
  }
  for (int64_t i = 1; i < a.rows; ++i)
    for (int64_t j = 0; j < i; ++j) a.product[i * a.rows + j] = a.product[j * a.rows + i];
}

}  // namespace FT_ISA
}  // namespace ft
