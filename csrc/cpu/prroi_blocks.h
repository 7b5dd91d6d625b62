// The part of the feature maps that RoIs meet, channels last, in blocks of kChannels.
#pragma once

#include "cpu/matrix_transpose.h"
#include "cpu/prroi_plan.h"

namespace ft {
namespace FT_ISA {

constexpr int kVectors = kChannels / FT_LANES;

// kChannels values in registers.
struct Lanes {
  vf v[kVectors];

  FT_INLINE static Lanes zero() {
    Lanes out;
    for (int i = 0; i < kVectors; ++i) out.v[i] = vf{};
    return out;
  }
  FT_INLINE static Lanes from(const float* p) {
    Lanes out;
    for (int i = 0; i < kVectors; ++i) out.v[i] = load(p + i * FT_LANES);
    return out;
  }
  FT_INLINE void add(float weight, const float* p) {
    const vf w = splat(weight);
    for (int i = 0; i < kVectors; ++i) v[i] += w * load(p + i * FT_LANES);
  }
  FT_INLINE void to(float* p) const {
    for (int i = 0; i < kVectors; ++i) store(p + i * FT_LANES, v[i]);
  }
};

// Σ_t w[t]·cells[t], cells `step` floats apart. Bins of about one cell, which trackers ask for, meet two or three.
template <int Count>
FT_INLINE Lanes weighted(const float* w, const float* cells, int64_t step) {
  Lanes sum;
  const vf first = splat(w[0]);
  for (int i = 0; i < kVectors; ++i) sum.v[i] = first * load(cells + i * FT_LANES);
  for (int t = 1; t < Count; ++t) sum.add(w[t], cells + t * step);
  return sum;
}

FT_INLINE Lanes weighted_sum(const float* w, const float* cells, int64_t step, int64_t count) {
  if (count == 3) return weighted<3>(w, cells, step);
  if (count == 2) return weighted<2>(w, cells, step);
  Lanes sum = Lanes::zero();
  for (int64_t t = 0; t < count; ++t) sum.add(w[t], cells + t * step);
  return sum;
}

FT_INLINE void add_to(float* p, float weight, const Lanes& lanes) {
  const vf w = splat(weight);
  for (int i = 0; i < kVectors; ++i) store(p + i * FT_LANES, load(p + i * FT_LANES) + w * lanes.v[i]);
}

inline int64_t channel_blocks(int64_t channels) { return (channels + kChannels - 1) / kChannels; }

// Channels of block `b`: kChannels but for the last.
inline int64_t block_width(int64_t channels, int64_t b) {
  const int64_t left = channels - b * kChannels;
  return left < kChannels ? left : kChannels;
}

// Maps that are channels-last already, in whole blocks, are read where they lie; of others the region that the
// RoIs of an image meet is copied.
class FeatureBlocks {
 public:
  template <class Args>
  FeatureBlocks(const Args& a, const Plan& plan) : images_(a.rois.images), blocks_(channel_blocks(a.channels)) {
    direct_ = a.stride_c == 1 && a.channels % kChannels == 0;
    cell_ = direct_ ? a.stride_x : kChannels;
    Carver counter(nullptr);
    starts_ = counter.take<const float*>(images_ * blocks_);
    rows_ = counter.take<int64_t>(images_);
    const int64_t lists = counter.used();
    int64_t floats = 0;
    if (!direct_)
      for (int64_t n = 0; n < images_; ++n)
        floats += plan.region_y[n].size() * plan.region_x[n].size() * blocks_ * kChannels;
    char* memory = memory_.allocate(lists + floats * static_cast<int64_t>(sizeof(float)));
    Carver carver(memory);
    starts_ = carver.take<const float*>(images_ * blocks_);
    rows_ = carver.take<int64_t>(images_);
    float* copies = reinterpret_cast<float*>(memory + lists);
    for (int64_t n = 0; n < images_; ++n) {
      const Span rows = plan.region_y[n], columns = plan.region_x[n];
      rows_[n] = direct_ ? a.stride_y : columns.size() * kChannels;
      for (int64_t b = 0; b < blocks_; ++b) {
        const float* origin = direct_ ? a.features + n * a.stride_n + b * kChannels
                                      : copies - rows.begin * rows_[n] - columns.begin * cell_;
        starts_[n * blocks_ + b] = origin;
        if (!direct_) copies += rows.size() * rows_[n];
      }
    }
    if (!direct_) copy(a, plan);
  }

  // kChannels values of cell (i, j); only cells that a RoI of the image meets may be asked for.
  FT_INLINE const float* at(int64_t n, int64_t block, int64_t i, int64_t j) const {
    return starts_[n * blocks_ + block] + i * rows_[n] + j * cell_;
  }
  // Floats from a cell to the one below it.
  FT_INLINE int64_t row(int64_t n) const { return rows_[n]; }

 private:
  template <class Args>
  void copy(const Args& a, const Plan& plan) {
    int64_t rows = 0;
    for (int64_t n = 0; n < images_; ++n) rows = plan.region_y[n].size() > rows ? plan.region_y[n].size() : rows;
    const int64_t tasks = images_ * blocks_ * rows;
#pragma omp parallel for schedule(static) if (tasks >= 64)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t n = task / (blocks_ * rows), b = task / rows % blocks_, i = plan.region_y[n].begin + task % rows;
      if (i < plan.region_y[n].end) copy_row(a, n, b, i, plan.region_x[n]);
    }
  }

  template <class Args>
  void copy_row(const Args& a, int64_t n, int64_t b, int64_t i, const Span& columns) {
    const int64_t width = block_width(a.channels, b), count = columns.size();
    const float* src =
        a.features + n * a.stride_n + b * kChannels * a.stride_c + i * a.stride_y + columns.begin * a.stride_x;
    float* dst = const_cast<float*>(at(n, b, i, columns.begin));
    if (width < kChannels) std::memset(dst, 0, count * kChannels * sizeof(float));
    if (a.stride_x == 1) return transpose_matrix(src, a.stride_c, width, count, dst, kChannels);
    for (int64_t j = 0; j < count; ++j)
      for (int64_t c = 0; c < width; ++c) dst[j * kChannels + c] = src[c * a.stride_c + j * a.stride_x];
  }

  int64_t images_, blocks_, cell_;
  bool direct_;
  const float** starts_;
  int64_t* rows_;
  Block memory_;
};

// Pool in y: out[p][j − columns.begin] = Σ_i wy[p, i]·F[i, j] for the columns of a run that begins with RoI k.
inline void pool_y(const FeatureBlocks& f, const Plan& plan, int64_t k, int64_t block, const Span& columns,
                   float* out) {
  const int64_t n = plan.roi[k].image;
  for (int64_t p = 0; p < plan.y.bins; ++p) {
    const int64_t first = plan.y.begin(k, p), count = plan.y.number(k, p);
    const float* w = plan.y.weights(k, p);
    for (int64_t j = columns.begin; j < columns.end; ++j, out += kChannels) {
      weighted_sum(w, f.at(n, block, first, j), f.row(n), count).to(out);
    }
  }
}

}  // namespace FT_ISA
}  // namespace ft
