// Histograms of oriented gradients (Felzenszwalb et al. 2010), one band of cell rows at a time.
//
// Pixels are voted in *blocks*: block (i, j) holds the pixels whose bilinear votes go to the cells
// (i−1, j−1), (i−1, j), (i, j−1), (i, j). A vote is then one 4-float multiply-add, whatever the
// cell size, and pixels one cell apart share their four weights: a row is walked once per column
// within the cell, so that neighbouring votes never wait for each other.
#include "hog.h"

#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kSigned = 18, kUnsigned = 9, kEnergies = 4;
constexpr float kClip = 0.2f, kEpsilon = 1e-4f, kEnergyGain = 0.2357f;
constexpr int64_t kParallelPx = 32768;  // pixels, of some 80 µs: below, waking threads costs more
// Tangents of 10°, 30°, 50°, 70°: the borders between the directions 0°, 20°, … 80°.
constexpr float kTan10 = 0.17632698070846498f, kTan30 = 0.57735026918962576f, kTan50 = 1.19175359259420996f,
                kTan70 = 2.74747741945462228f;

typedef float Votes __attribute__((vector_size(16), may_alias));  // cells (−1,−1), (−1,0), (0,−1), (0,0)

// Four floats picked from two votes: 0–3 of the first, 4–7 of the second.
#if defined(__clang__)
#define FT_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t Picks __attribute__((vector_size(16)));
#define FT_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, Picks{i, j, k, l})
#endif

// Blocks of an axis: the block of pixel p and how much of its vote goes to the later cell.
struct Place {
  int64_t block;
  float later;
};
Place place(int64_t p, int64_t cell) {
  const int64_t twice = 2 * p + 1 + cell;
  const int64_t block = twice / (2 * cell);
  return {block, static_cast<float>(twice - block * 2 * cell) / static_cast<float>(2 * cell)};
}

struct Scratch {
  float* magnitude;  // one pixel row
  int32_t* slot;     // one pixel row: where the direction's plane of blocks begins, in bytes
  Votes* blocks;     // 18 × (cells + 1): one row of blocks
  float* bins;       // (cell rows + 2) × 18 × cells
  float* energy;     // cell rows × cells
  float* inverse;    // 2 × (cells + 1): inverse norms of the blocks above and below a cell row
  float* texture;    // 4 × cells: clipped sums over the signed directions

  Scratch(const HogArgs& a, int64_t rows, Carver& c) {
    const int64_t cells = a.width / a.cell;
    magnitude = c.take<float>(a.width);
    slot = c.take<int32_t>(a.width);
    blocks = c.take<Votes>(kSigned * (cells + 1));
    bins = c.take<float>((rows + 2) * kSigned * cells);
    energy = c.take<float>(rows * cells);
    inverse = c.take<float>(2 * (cells + 1));
    texture = c.take<float>(kEnergies * cells);
  }
};

// Magnitude and direction of the gradient of one pixel row, from the channel where it is largest.
template <int kChannels>
void gradient_row(const HogArgs& a, const float* patch, int64_t y, int64_t n, int32_t plane,
                  float* __restrict magnitude, int32_t* __restrict slot) {
  const int64_t above = (y > 0 ? y - 1 : 0) * a.stride_row;
  const int64_t below = (y + 1 < a.height ? y + 1 : y) * a.stride_row;
  const int64_t at = y * a.stride_row;
  const auto pixels = [&](int64_t first, int64_t last, int64_t left, int64_t right) {
#pragma omp simd
    for (int64_t x = first; x < last; ++x) {
      float dx = patch[at + x + right] - patch[at + x + left];
      float dy = patch[below + x] - patch[above + x];
      float best = dx * dx + dy * dy;
      for (int c = 1; c < kChannels; ++c) {
        const float* p = patch + c * a.stride_channel;
        const float u = p[at + x + right] - p[at + x + left];
        const float v = p[below + x] - p[above + x];
        const float square = u * u + v * v;
        const bool larger = square > best;
        dx = larger ? u : dx;
        dy = larger ? v : dy;
        best = larger ? square : best;
      }
      // Opposite directions are 9 apart: a gradient of the lower half is turned into the upper one. There the
      // direction follows from |dx|, |dy| and the side; it is counted in planes.
      const bool lower = (dy < 0.0f) | ((dy == 0.0f) & (dx < 0.0f));
      const float across = lower ? -dx : dx;
      const float flat = dx < 0.0f ? -dx : dx;
      const float up = dy < 0.0f ? -dy : dy;
      const int32_t step = (up > kTan10 * flat ? plane : 0) + (up > kTan30 * flat ? plane : 0) +
                           (up > kTan50 * flat ? plane : 0) + (up > kTan70 * flat ? plane : 0);
      const int32_t direction = (across < 0.0f ? 9 * plane - step : step) + (lower ? 9 * plane : 0);
      magnitude[x] = __builtin_sqrtf(best);
      slot[x] = direction == 18 * plane ? 0 : direction;
    }
  };
  pixels(0, 1, 0, a.width > 1 ? 1 : 0);
  const int64_t inner = n < a.width ? n : a.width - 1;
  pixels(1, inner, -1, 1);
  if (n == a.width && n > 1) pixels(n - 1, n, -1, 0);
}

// Votes of one pixel row into its row of blocks.
void vote_row(const Scratch& s, int64_t n, int64_t cell, float below, Votes* blocks) {
  const float* magnitude = s.magnitude;
  const int32_t* slot = s.slot;
  for (int64_t first = 0; first < cell; ++first) {
    const Place p = place(first, cell);
    const float after = p.later, before = 1.0f - after, above = 1.0f - below;
    const Votes weight = {above * before, above * after, below * before, below * after};
    char* block = reinterpret_cast<char*>(blocks + p.block);
    for (int64_t x = first; x < n; x += cell, block += sizeof(Votes))
      *reinterpret_cast<Votes*>(block + slot[x]) += magnitude[x] * weight;
  }
}

// One row of blocks into the cell rows it touches: the later row is set, the earlier one finished. Cell j takes
// components 1 and 3 of block j, and 0 and 2 of block j + 1. Four cells at a time, as shuffles of whole votes.
void fold_blocks(const Votes* blocks, int64_t cells, float* __restrict earlier, float* __restrict later) {
  // (?, earlier, ?, later) of one cell; (earlier, later) of two
  const auto one = [](const Votes* b) { return b[0] + FT_SHUFFLE(b[1], b[1], 0, 0, 2, 2); };
  const auto two = [&](const Votes* b) { return FT_SHUFFLE(one(b), one(b + 1), 1, 3, 5, 7); };
  for (int64_t o = 0; o < kSigned; ++o) {
    const Votes* b = blocks + o * (cells + 1);
    float* up = earlier + o * cells;
    float* down = later + o * cells;
    int64_t j = 0;
    for (; j + 4 <= cells; j += 4) {
      const Votes p = two(b + j), q = two(b + j + 2);
      const Votes above = FT_SHUFFLE(p, q, 0, 2, 4, 6), below = FT_SHUFFLE(p, q, 1, 3, 5, 7);
      Votes sum;
      std::memcpy(&sum, up + j, sizeof sum);
      sum += above;
      std::memcpy(up + j, &sum, sizeof sum);
      std::memcpy(down + j, &below, sizeof below);
    }
    for (; j < cells; ++j) {
      up[j] += b[j][1] + b[j + 1][0];
      down[j] = b[j][3] + b[j + 1][2];
    }
  }
}

void cell_energy(const float* bins, int64_t cells, float* __restrict energy) {
  for (int64_t j = 0; j < cells; ++j) energy[j] = 0.0f;
  for (int64_t o = 0; o < kUnsigned; ++o) {
    const float* a = bins + o * cells;
    const float* b = bins + (o + kUnsigned) * cells;
    for (int64_t j = 0; j < cells; ++j) energy[j] += (a[j] + b[j]) * (a[j] + b[j]);
  }
}

// Histograms of the cell rows [row0, row1) of a patch.
void bin_rows(const HogArgs& a, const float* patch, int64_t row0, int64_t row1, const Scratch& s) {
  const int64_t cells = a.width / a.cell, n = cells * a.cell, used = a.height / a.cell * a.cell;
  const int64_t row_floats = kSigned * cells;
  int64_t y = 0;
  while (y < used && place(y, a.cell).block < row0) ++y;
  for (int64_t block = row0; block <= row1; ++block) {
    std::memset(static_cast<void*>(s.blocks), 0, kSigned * (cells + 1) * sizeof(Votes));
    for (; y < used; ++y) {
      const Place p = place(y, a.cell);
      if (p.block != block) break;
      const int32_t plane = static_cast<int32_t>((cells + 1) * sizeof(Votes));
      if (a.channels == 3)
        gradient_row<3>(a, patch, y, n, plane, s.magnitude, s.slot);
      else
        gradient_row<1>(a, patch, y, n, plane, s.magnitude, s.slot);
      vote_row(s, n, a.cell, p.later, s.blocks);
    }
    // Row 0 of the bins takes the votes above the band, the last one those below it.
    float* bins = s.bins + (block - row0) * row_floats;
    fold_blocks(s.blocks, cells, bins, bins + row_floats);
  }
  for (int64_t i = 0; i < row1 - row0; ++i) cell_energy(s.bins + (i + 1) * row_floats, cells, s.energy + i * cells);
}

// 1 / norm of the 2 × 2 blocks between two cell rows: cells + 1 of them, border cells repeated.
void inverse_norms(const float* upper, const float* lower, int64_t cells, float* __restrict inverse) {
  const auto between = [&](int64_t left, int64_t right) {
    return 1.0f / __builtin_sqrtf(upper[left] + upper[right] + lower[left] + lower[right] + kEpsilon);
  };
  inverse[0] = between(0, 0);
#pragma omp simd
  for (int64_t j = 1; j < cells; ++j) inverse[j] = between(j - 1, j);
  inverse[cells] = between(cells - 1, cells - 1);
}

inline float clip(float v) { return v > kClip ? kClip : v; }  // keeps NaN

// The 31 channels of one cell row; `plane` floats from channel to channel. `above` and `below` are the
// inverse norms of the blocks around the cells.
void describe_row(const float* bins, const float* above, const float* below, int64_t cells, int64_t plane,
                  float* __restrict energies, float* out) {
  const float* n0 = below + 1;  // lower right, as the order of the energies wants it
  const float* n1 = above + 1;  // upper right
  const float* n2 = below;      // lower left
  const float* n3 = above;      // upper left
  std::memset(energies, 0, kEnergies * cells * sizeof(float));
  float* __restrict e0 = energies;
  float* __restrict e1 = energies + cells;
  float* __restrict e2 = energies + 2 * cells;
  float* __restrict e3 = energies + 3 * cells;
  for (int64_t o = 0; o < kSigned; ++o) {
    const float* bin = bins + o * cells;
    float* __restrict to = out + o * plane;
#pragma omp simd
    for (int64_t j = 0; j < cells; ++j) {
      const float v = bin[j];
      const float a = clip(v * n0[j]), b = clip(v * n1[j]);
      const float c = clip(v * n2[j]), d = clip(v * n3[j]);
      to[j] = 0.5f * (a + b + c + d);
      e0[j] += a;
      e1[j] += b;
      e2[j] += c;
      e3[j] += d;
    }
  }
  for (int64_t o = 0; o < kUnsigned; ++o) {
    const float* bin = bins + o * cells;
    const float* opposite = bin + kUnsigned * cells;
    float* __restrict to = out + (kSigned + o) * plane;
#pragma omp simd
    for (int64_t j = 0; j < cells; ++j) {
      const float v = bin[j] + opposite[j];
      to[j] = 0.5f * (clip(v * n0[j]) + clip(v * n1[j]) + clip(v * n2[j]) + clip(v * n3[j]));
    }
  }
  for (int64_t e = 0; e < kEnergies; ++e) {
    float* __restrict to = out + (kSigned + kUnsigned + e) * plane;
    for (int64_t j = 0; j < cells; ++j) to[j] = kEnergyGain * energies[e * cells + j];
  }
}

// Output rows [row0, row1) of patch t. The norms look one cell row further on either side.
void hog_band(const HogArgs& a, int64_t t, int64_t row0, int64_t row1, const Scratch& s) {
  const int64_t rows = a.height / a.cell, cells = a.width / a.cell;
  const int64_t from = row0 > 0 ? row0 - 1 : 0, to = row1 < rows ? row1 + 1 : rows;
  bin_rows(a, a.patches + t * a.stride_patch, from, to, s);
  const auto energy = [&](int64_t i) {
    const int64_t inside = i < 0 ? 0 : (i < rows ? i : rows - 1);
    return s.energy + (inside - from) * cells;
  };
  float* above = s.inverse;
  float* below = above + cells + 1;
  const int64_t plane = rows * cells;
  inverse_norms(energy(row0 - 1), energy(row0), cells, below);
  for (int64_t i = row0; i < row1; ++i) {
    float* const last = above;
    above = below;
    below = last;
    inverse_norms(energy(i), energy(i + 1), cells, below);
    describe_row(s.bins + (i - from + 1) * kSigned * cells, above, below, cells, plane, s.texture,
                 a.out + t * 31 * plane + i * cells);
  }
}

}  // namespace

void hog(const HogArgs& a) {
  if (a.count == 0) return;
  const int64_t rows = a.height / a.cell;
  const int threads = a.count * a.height * a.width < kParallelPx ? 1 : max_threads();
  int64_t bands = (threads + a.count - 1) / a.count;
  bands = bands < rows ? bands : rows;
  const int64_t band_rows = (rows + bands - 1) / bands + 2;
  PerThread<Scratch> scratch(threads, a, band_rows);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t item = 0; item < a.count * bands; ++item) {
    const int64_t t = item / bands, band = item % bands;
    hog_band(a, t, band * rows / bands, (band + 1) * rows / bands, scratch.of(thread_index(), a, band_rows));
  }
}

}  // namespace FT_ISA
}  // namespace ft
