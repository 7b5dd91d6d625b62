// Gram matrix and Cholesky factor with one register tile.
//
// Everything lies in panels of kRows rows, column after column: element (row, k) of panel i at i[k * kRows + row].
// One tile multiplies a panel (vectors along its rows) with a few rows of another (broadcast) over a range of k,
// which is the Gram product, the trailing update of the factor and the larger part of its triangular solves.
#include "cpu/gram_cholesky.h"

#include <cmath>

namespace ft {
namespace FT_ISA {

namespace {

constexpr int kVectors = 3;                               // vectors per panel column
constexpr int kRows = kVectors * FT_LANES;                // rows of a panel
constexpr int kCols = FT_ISA_LEVEL >= 2 ? 8 : 4;          // columns of a tile: kVectors * kCols sums fill the registers
constexpr int64_t kDepth = FT_ISA_LEVEL >= 2 ? 96 : 160;  // two panels of this depth lie in the first cache
constexpr int64_t kGroup = 4;                             // panels whose products are summed together
constexpr int64_t kParallelFrom = 4;                      // panels from which threads pay

enum class Mode { Set, Add, Subtract };

// c[q][rows] (=, +=, −=) Σ_k rows[k]·cols[k][q] for NV vectors of rows and NQ columns.
template <int NV, int NQ, Mode mode>
FT_INLINE void tile(float* c, const float* rows, const float* cols, int64_t depth) {
  vf sums[NQ][NV] = {};
  for (int64_t k = 0; k < depth; ++k) {
    vf row[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) row[v] = load(rows + k * kRows + v * FT_LANES);
#pragma GCC unroll 32
    for (int q = 0; q < NQ; ++q) {
      const vf col = splat(cols[k * kRows + q]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) sums[q][v] += col * row[v];
    }
  }
#pragma GCC unroll 32
  for (int q = 0; q < NQ; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      float* at = c + q * kRows + v * FT_LANES;
      store(at, mode == Mode::Set ? sums[q][v] : mode == Mode::Add ? load(at) + sums[q][v] : load(at) - sums[q][v]);
    }
  }
}

template <int NV, int NQ, Mode mode>
void tiles(float* c, const float* rows, const float* cols, int64_t depth) {
  for (int q = 0; q < kRows; q += NQ) tile<NV, NQ, mode>(c + q * kRows, rows, cols + q, depth);
}

// The whole tile of two different panels; `vectors` of the row panel are in use.
template <Mode mode>
void update(float* c, const float* rows, const float* cols, int64_t depth, int vectors) {
  if (vectors == 3) return tiles<3, kCols, mode>(c, rows, cols, depth);
  if (vectors == 2) return tiles<2, kCols, mode>(c, rows, cols, depth);
  return tiles<1, 3 * kCols, mode>(c, rows, cols, depth);
}

// The tile of a panel with itself: only vectors that reach the diagonal.
template <Mode mode>
void update_diagonal(float* c, const float* panel, int64_t depth, int vectors) {
  for (int q = 0; q < vectors * FT_LANES; q += kCols) {
    const int first = q / FT_LANES;
    float* at = c + q * kRows + first * FT_LANES;
    const float* rows = panel + first * FT_LANES;
    switch (vectors - first) {
      case 3:
        tile<3, kCols, mode>(at, rows, panel + q, depth);
        break;
      case 2:
        tile<2, kCols, mode>(at, rows, panel + q, depth);
        break;
      default:
        tile<1, kCols, mode>(at, rows, panel + q, depth);
    }
  }
}

// Sizes of a matrix of `count` rows in panels.
struct Panels {
  explicit Panels(int64_t rows) : count((rows + kRows - 1) / kRows), rows(rows) {}
  int64_t first(int64_t i) const { return i * kRows; }
  int64_t width(int64_t i) const { return rows - first(i) < kRows ? rows - first(i) : kRows; }
  int vectors(int64_t i) const { return static_cast<int>((width(i) + FT_LANES - 1) / FT_LANES); }
  // Panel i of the triangle has the columns of the panels 0…i.
  static int64_t triangle(int64_t i) { return kRows * kRows * (i * (i + 1) / 2); }
  int64_t count, rows;
};

void pack(const GramInput& input, const Panels& panels, int64_t i, float* out) {
  const float* from = input.data + panels.first(i) * input.step;
  const int64_t width = panels.width(i);
  if (width < kRows) std::memset(out, 0, static_cast<size_t>(kRows * input.depth) * sizeof(float));
  if (input.step == 1) {
    for (int64_t k = 0; k < input.depth; ++k)
      std::memcpy(out + k * kRows, from + k * input.stride, static_cast<size_t>(width) * sizeof(float));
    return;
  }
  constexpr int64_t kStrip = 16;  // a cache line of each row at a time
  for (int64_t k = 0; k < input.depth; k += kStrip) {
    const int64_t strip = input.depth - k < kStrip ? input.depth - k : kStrip;
    for (int64_t row = 0; row < width; ++row)
      for (int64_t s = 0; s < strip; ++s) out[(k + s) * kRows + row] = from[row * input.step + k + s];
  }
}

void gram(const GramInput& input, const Panels& panels, const float* packed, float* out) {
  const int64_t size = kRows * input.depth, groups = (panels.count + kGroup - 1) / kGroup;
  // The last groups have the most columns, so they go first.
#pragma omp parallel for schedule(dynamic) if (panels.count >= kParallelFrom)
  for (int64_t back = 0; back < groups; ++back) {
    const int64_t first = (groups - 1 - back) * kGroup;
    const int64_t last = first + kGroup < panels.count ? first + kGroup : panels.count;
    for (int64_t k = 0; k < input.depth; k += kDepth) {
      const int64_t depth = input.depth - k < kDepth ? input.depth - k : kDepth;
      for (int64_t j = 0; j < last; ++j) {
        const float* cols = packed + j * size + k * kRows;
        for (int64_t i = j > first ? j : first; i < last; ++i) {
          float* c = out + Panels::triangle(i) + j * kRows * kRows;
          const float* rows = packed + i * size + k * kRows;
          const int vectors = panels.vectors(i);
          if (i == j) {
            k == 0 ? update_diagonal<Mode::Set>(c, rows, depth, vectors)
                   : update_diagonal<Mode::Add>(c, rows, depth, vectors);
          } else {
            k == 0 ? update<Mode::Set>(c, rows, cols, depth, vectors)
                   : update<Mode::Add>(c, rows, cols, depth, vectors);
          }
        }
      }
    }
  }
}

// Factor of a diagonal tile, and the reciprocals of its diagonal.
bool factor_diagonal(float* c, int vectors, float* inverse) {
  for (int q = 0; q < vectors * FT_LANES; q += kCols) {
    tile<kVectors, kCols, Mode::Subtract>(c + q * kRows, c, c + q, q);
    for (int p = q; p < q + kCols; ++p) {
      float* column = c + p * kRows;
      const float pivot = column[p];
      if (!(pivot > 0.0f && pivot <= 3.4e38f)) return false;
      const float root = std::sqrt(pivot);
      inverse[p] = 1.0f / root;
      for (int row = 0; row < kRows; ++row) column[row] *= inverse[p];
      column[p] = root;
      for (int next = p + 1; next < q + kCols; ++next)
        for (int row = 0; row < kRows; ++row) c[next * kRows + row] -= column[next] * column[row];
    }
  }
  return true;
}

// c ← c·L⁻ᵀ, L the factor of the diagonal tile of these columns.
template <int NV>
void solve_tile(float* c, const float* diagonal, const float* inverse) {
  for (int q = 0; q < kRows; q += kCols) {
    tile<NV, kCols, Mode::Subtract>(c + q * kRows, c, diagonal + q, q);
    for (int p = q; p < q + kCols; ++p) {
      vf column[NV];
      for (int v = 0; v < NV; ++v) {
        float* at = c + p * kRows + v * FT_LANES;
        store(at, column[v] = load(at) * splat(inverse[p]));
      }
      for (int next = p + 1; next < q + kCols; ++next) {
        const vf factor = splat(diagonal[p * kRows + next]);
        for (int v = 0; v < NV; ++v) {
          float* at = c + next * kRows + v * FT_LANES;
          store(at, load(at) - factor * column[v]);
        }
      }
    }
  }
}

// Tile (i, j) minus the products of the columns before it.
void subtract_left(const float* panel, const float* other, float* c, int64_t columns, int vectors, bool diagonal) {
  for (int64_t k = 0; k < columns; k += kDepth) {
    const int64_t depth = columns - k < kDepth ? columns - k : kDepth;
    if (diagonal) {
      update_diagonal<Mode::Subtract>(c, panel + k * kRows, depth, vectors);
    } else {
      update<Mode::Subtract>(c, panel + k * kRows, other + k * kRows, depth, vectors);
    }
  }
}

bool cholesky(const Panels& panels, float* triangle) {
  for (int64_t j = 0; j < panels.count; ++j) {
    float* left = triangle + Panels::triangle(j);
    float* diagonal = left + j * kRows * kRows;
    const int64_t columns = panels.first(j);
    float inverse[kRows];
    subtract_left(left, left, diagonal, columns, panels.vectors(j), true);
    if (!factor_diagonal(diagonal, panels.vectors(j), inverse)) return false;
#pragma omp parallel for schedule(static) if (panels.count - j > kParallelFrom)
    for (int64_t i = j + 1; i < panels.count; ++i) {
      float* panel = triangle + Panels::triangle(i);
      float* c = panel + j * kRows * kRows;
      const int vectors = panels.vectors(i);
      subtract_left(panel, left, c, columns, vectors, false);
      vectors == 3   ? solve_tile<3>(c, diagonal, inverse)
      : vectors == 2 ? solve_tile<2>(c, diagonal, inverse)
                     : solve_tile<1>(c, diagonal, inverse);
    }
  }
  return true;
}

// Rows of panel i of the factor, zeros above the diagonal.
void unpack(const Panels& panels, int64_t i, const float* panel, float* out) {
  constexpr int64_t kStrip = 16;
  const int64_t n = panels.rows, first = panels.first(i), end = first + panels.width(i);
  for (int64_t k = 0; k < end; k += kStrip) {
    const int64_t strip = end - k < kStrip ? end - k : kStrip;
    for (int64_t row = first; row < end; ++row)
      for (int64_t s = 0; s < strip; ++s) out[row * n + k + s] = panel[(k + s) * kRows + row - first];
  }
  for (int64_t row = first; row < end; ++row)
    std::memset(out + row * n + row + 1, 0, static_cast<size_t>(n - row - 1) * sizeof(float));
}

}  // namespace

GramScratch::GramScratch(int64_t count, int64_t depth, Carver& carver) {
  const Panels panels(count);
  packed = carver.take<float>(panels.count * kRows * depth);
  factor = carver.take<float>(Panels::triangle(panels.count));
}

bool gram_cholesky(const GramInput& input, double lam, const GramScratch& scratch, float* factor) {
  const Panels panels(input.count);
#pragma omp parallel for schedule(static) if (panels.count >= kParallelFrom)
  for (int64_t i = 0; i < panels.count; ++i) pack(input, panels, i, scratch.packed + i * kRows * input.depth);
  gram(input, panels, scratch.packed, scratch.factor);
  for (int64_t i = 0; i < panels.count; ++i) {
    float* diagonal = scratch.factor + Panels::triangle(i) + i * kRows * kRows;
    for (int64_t row = 0; row < panels.vectors(i) * FT_LANES; ++row) {
      // Rows beyond the last are those of the identity.
      float& at = diagonal[row * kRows + row];
      at = row < panels.width(i) ? static_cast<float>(at + lam) : 1.0f;
    }
  }
  if (!cholesky(panels, scratch.factor)) return false;
#pragma omp parallel for schedule(static) if (panels.count >= kParallelFrom)
  for (int64_t i = 0; i < panels.count; ++i) unpack(panels, i, scratch.factor + Panels::triangle(i), factor);
  return true;
}

}  // namespace FT_ISA
}  // namespace ft
