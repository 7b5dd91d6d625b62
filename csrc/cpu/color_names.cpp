// Mean of a colour table's rows over the pixels of each cell, one row of cells at a time.
//
// The row number of every pixel is computed first, in a loop that vectorises; then each cell adds up its
// table rows. A row of 8 to 16 terms is two vectors of eight which may overlap.
#include "color_names.h"

#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kParallelPx = 16384;  // pixels below which threads cost more than they give

typedef float Eight __attribute__((vector_size(32)));

FT_INLINE void add(Eight& sum, const float* from) {
  Eight v;
  std::memcpy(&v, from, sizeof v);
  sum += v;
}

struct Scratch {
  int32_t* row;  // table row of each pixel of a row of cells
  float* sums;   // per cell its terms
  Scratch(const ColorNamesArgs& a, Carver& c) {
    row = c.take<int32_t>(a.cell * a.width);
    sums = c.take<float>(a.width / a.cell * a.terms);
  }
};

FT_INLINE int32_t bin(float v) {
  const float low = v > 0.0f ? v : 0.0f;  // NaN too
  return static_cast<int32_t>(low < 255.0f ? low : 255.0f) >> 3;
}

// Table rows of n pixels; whether one of them is NaN.
bool table_rows(const float* r, const float* g, const float* b, int64_t n, int32_t* row) {
  int32_t nan = 0;
#pragma omp simd reduction(| : nan)
  for (int64_t i = 0; i < n; ++i) {
    row[i] = bin(r[i]) + (bin(g[i]) << 5) + (bin(b[i]) << 10);
    nan |= (r[i] != r[i]) | (g[i] != g[i]) | (b[i] != b[i]);
  }
  return nan != 0;
}

// Sum of the table rows of a cell: `first` is its upper left pixel, rows of pixels are `width` apart.
FT_INLINE void add_cell(const ColorNamesArgs& a, const int32_t* first, int64_t width, float* sum) {
  const int64_t terms = a.terms;
  if (terms >= 8 && terms <= 16) {
    Eight low = {}, high = {};
    for (int64_t y = 0; y < a.cell; ++y) {
      for (int64_t x = 0; x < a.cell; ++x) {
        const float* from = a.table + first[y * width + x] * terms;
        add(low, from);
        add(high, from + terms - 8);
      }
    }
    std::memcpy(sum, &low, sizeof low);
    std::memcpy(sum + terms - 8, &high, sizeof high);
    return;
  }
  for (int64_t k = 0; k < terms; ++k) sum[k] = 0.0f;
  for (int64_t y = 0; y < a.cell; ++y)
    for (int64_t x = 0; x < a.cell; ++x)
      for (int64_t k = 0; k < terms; ++k) sum[k] += a.table[first[y * width + x] * terms + k];
}

// A cell that holds a NaN is NaN.
void mark_nan(const ColorNamesArgs& a, const float* patch, int64_t cells, float* sums) {
  for (int64_t c = 0; c < 3; ++c)
    for (int64_t y = 0; y < a.cell; ++y)
      for (int64_t x = 0; x < cells * a.cell; ++x) {
        const float v = patch[c * a.stride_channel + y * a.stride_row + x];
        if (v == v) continue;
        for (int64_t k = 0; k < a.terms; ++k) sums[x / a.cell * a.terms + k] = v;
      }
}

void cell_row(const ColorNamesArgs& a, int64_t patch_index, int64_t i, const Scratch& s) {
  const int64_t rows = a.height / a.cell, cells = a.width / a.cell, n = cells * a.cell;
  const float* patch = a.patches + patch_index * a.stride_patch + i * a.cell * a.stride_row;
  bool nan = false;
  for (int64_t y = 0; y < a.cell; ++y) {
    const float* r = patch + y * a.stride_row;
    nan |= table_rows(r, r + a.stride_channel, r + 2 * a.stride_channel, n, s.row + y * a.width);
  }
  for (int64_t j = 0; j < cells; ++j) add_cell(a, s.row + j * a.cell, a.width, s.sums + j * a.terms);
  if (nan) mark_nan(a, patch, cells, s.sums);
  const float share = 1.0f / static_cast<float>(a.cell * a.cell);
  for (int64_t k = 0; k < a.terms; ++k) {
    float* out = a.out + ((patch_index * a.terms + k) * rows + i) * cells;
    for (int64_t j = 0; j < cells; ++j) out[j] = s.sums[j * a.terms + k] * share;
  }
}

}  // namespace

void color_names(const ColorNamesArgs& a) {
  const int64_t rows = a.height / a.cell;
  const int threads = a.count * a.height * a.width < kParallelPx ? 1 : max_threads();
  PerThread<Scratch> scratch(threads, a);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t item = 0; item < a.count * rows; ++item)
    cell_row(a, item / rows, item % rows, scratch.of(thread_index(), a));
}

}  // namespace FT_ISA
}  // namespace ft
