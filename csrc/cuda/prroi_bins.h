// What a bin of a RoI weighs the cells of a map with, in float32, from edges in float64.
#pragma once

#include "prroi_pool.h"

namespace ft {
namespace {

// Mean over a bin of the hat of a cell. The bin begins `u` behind the cell. A bin inside one slope of the hat is all
// of it: no difference of two near-equal edges, so that tiny bins keep their digits.
__device__ __forceinline__ float hat_mean(float u, float width, float per_width) {
  const float v = u + width;
  const bool rising = u >= -1.0f && v <= 0.0f, falling = !rising && u >= 0.0f && v <= 1.0f;
  const float a = clamp_to(u, -1.0f, 0.0f), b = clamp_to(v, -1.0f, 0.0f);
  const float c = clamp_to(u, 0.0f, 1.0f), d = clamp_to(v, 0.0f, 1.0f);
  const float rise = rising ? 1.0f : (b - a) * per_width, fall = falling ? 1.0f : (d - c) * per_width;
  return rise * (1.0f + 0.5f * (a + b)) + fall * (1.0f - 0.5f * (c + d));
}

struct Bin {
  int first, count;           // cells it meets
  float u, width, per_width;  // its begin behind the first cell

  __device__ __forceinline__ float weight(int t) const {
    return t < count ? hat_mean(u - static_cast<float>(t), width, per_width) : 0.0f;
  }
};

__device__ __forceinline__ Bin bin_of(double low, double high, int64_t q, int64_t bins, int64_t size) {
  const double begin = bin_edge(low, high, q, bins), end = bin_edge(low, high, q + 1, bins);
  const CellRange cells = cells_of(begin, end, size);
  const double width = (high - low) / static_cast<double>(bins);
  return {static_cast<int>(cells.first), static_cast<int>(cells.count),
          static_cast<float>(begin - static_cast<double>(cells.first)), static_cast<float>(width),
          static_cast<float>(1.0 / width)};
}

// Rows or columns that `bins` bins from `from` on meet together.
__device__ __forceinline__ CellRange cells_of_bins(double low, double high, int64_t from, int64_t count, int64_t bins,
                                                   int64_t size) {
  return cells_of(bin_edge(low, high, from, bins), bin_edge(low, high, from + count, bins), size);
}

// Whether a RoI belongs to the blocks of an image; one without image belongs to those of the first.
__device__ __forceinline__ bool belongs(const Roi& roi, int64_t image) {
  return (roi.kind == RoiKind::Undefined ? 0 : roi.image) == image;
}

}  // namespace
}  // namespace ft
