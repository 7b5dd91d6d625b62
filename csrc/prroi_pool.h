// Precise RoI pooling: arguments, and the maths that CPU and CUDA share.
//
// The surface f(x, y) = Σ F[i, j]·hat(x − j)·hat(y − i) is separable, so the mean over a bin is
//   out[p, q] = Σ_ij wy[p, i]·wx[q, j]·F[i, j],   w[q, j] = mean of hat(· − j) over bin q
// and each bin meets the few cells floor(low) … ceil(high). RoI edges are coordinate × scale, in cells.
#pragma once

#include "maths.h"

namespace ft {

// All members have 8 bytes: the same struct goes by value to a CUDA kernel.
struct PrroiRois {
  const void* rows;   // count × 5, contiguous: image index, x1, y1, x2, y2
  int64_t is_double;  // rows of float64, else float32
  int64_t count;
  double scale;                   // cells per px
  int64_t bins_y, bins_x;         // P, Q
  int64_t images, height, width;  // of the feature map
};

struct PrroiPoolArgs {
  PrroiRois rois;
  const float* features;  // images × channels × height × width, strides in elements
  int64_t channels, stride_n, stride_c, stride_y, stride_x;
  float* out;  // count × channels × P × Q
};

struct PrroiFeaturesGradientArgs {
  PrroiRois rois;
  const float* grad;  // count × channels × P × Q, contiguous
  int64_t channels;
  float* out;  // images × channels × height × width, written whole
};

struct PrroiRoisGradientArgs {
  PrroiRois rois;
  const float* features;
  int64_t channels, stride_n, stride_c, stride_y, stride_x;
  const float* grad;  // count × channels × P × Q, contiguous
  double* out;        // count × 5; the image index has gradient 0
};

// Sum over the bins of a RoI of the mean of the bin's own map (one map per bin).
struct PrroiBinSumArgs {
  PrroiRois rois;
  const float* maps;  // images × height × width × P × Q, contiguous
  float* out;         // count
};

struct PrroiBinSumMapsGradientArgs {
  PrroiRois rois;
  const float* grad;  // count
  float* out;         // images × height × width × P × Q, written whole
};

struct PrroiBinSumRoisGradientArgs {
  PrroiRois rois;
  const float* maps;
  const float* grad;  // count
  double* out;        // count × 5
};

enum class RoiKind : int64_t {
  Proper = 0,
  Empty = 1,      // no area, or flipped: value 0, no gradient
  Undefined = 2,  // a coordinate that is not finite, or no such image: value NaN, no gradient
};

struct Roi {
  int64_t image;
  double x1, y1, x2, y2;  // edges in cells
  RoiKind kind;
};

FT_HD double roi_entry(const PrroiRois& r, int64_t k, int64_t column) {
  const int64_t at = 5 * k + column;
  return r.is_double ? static_cast<const double*>(r.rows)[at]
                     : static_cast<double>(static_cast<const float*>(r.rows)[at]);
}

// Image of an index column: the nearest whole number in 0 … images − 1, or −1 where that is more than 10⁻³ away
// or there is none (NaN).
FT_HD int64_t roi_image(double index, int64_t images) {
  const double off = 1e-3;
  if (!(index >= -off && index <= static_cast<double>(images - 1) + off)) return -1;
  const int64_t nearest = static_cast<int64_t>(index + 0.5);
  const double gap = index - static_cast<double>(nearest);
  return gap <= off && gap >= -off ? nearest : -1;
}

FT_HD Roi read_roi(const PrroiRois& r, int64_t k) {
  Roi roi = {roi_image(roi_entry(r, k, 0), r.images),
             roi_entry(r, k, 1) * r.scale,
             roi_entry(r, k, 2) * r.scale,
             roi_entry(r, k, 3) * r.scale,
             roi_entry(r, k, 4) * r.scale,
             RoiKind::Undefined};
  // x − x is 0 for finite x and NaN otherwise; the extents may overflow on their own.
  const double wide = roi.x2 - roi.x1, tall = roi.y2 - roi.y1;
  if (roi.image < 0 || !(wide - wide == 0.0 && tall - tall == 0.0)) return roi;
  roi.kind = wide > 0.0 && tall > 0.0 ? RoiKind::Proper : RoiKind::Empty;
  return roi;
}

// First RoI whose image does not exist, or −1.
inline int64_t first_roi_without_image(const PrroiRois& r) {
  for (int64_t k = 0; k < r.count; ++k)
    if (roi_image(roi_entry(r, k, 0), r.images) < 0) return k;
  return -1;
}

// Edge q of `bins` equal bins of [low, high].
FT_HD double bin_edge(double low, double high, int64_t q, int64_t bins) {
  return low + (high - low) * (static_cast<double>(q) / static_cast<double>(bins));
}

// Cells 0 … size − 1 that meet the open support of [low, high]: first, and how many (0 where none).
struct CellRange {
  int64_t first, count;
};

FT_HD CellRange cells_of(double low, double high, int64_t size) {
  // Bounded before the conversion: a huge double has no integer.
  const double top = static_cast<double>(size);
  const double a = low > 0.0 ? (low < top ? low : top) : 0.0;
  const double b = high > -1.0 ? (high < top ? high : top) : -1.0;
  const int64_t first = static_cast<int64_t>(a);        // floor: a ≥ 0
  int64_t last = static_cast<int64_t>(b + 1.0);         // ceil(b) = floor(b + 1) unless b is whole
  if (static_cast<double>(last) == b + 1.0) last -= 1;  // a whole b ends its cell's support
  if (last > size - 1) last = size - 1;
  return {first, last >= first ? last - first + 1 : 0};
}

template <class R>
FT_HD R clamp_to(R x, R low, R high) {
  const R raised = x > low ? x : low;
  return raised < high ? raised : high;
}

template <class R>
FT_HD R hat(R u) {
  const R fall = R(1) - (u < R(0) ? -u : u);
  return fall > R(0) ? fall : R(0);
}

// ∫ hat over [low, high], both relative to the cell. The two slopes are integrated apart as width × middle
// height: no difference of two near-equal primitives, so tiny bins keep their digits.
template <class R>
FT_HD R hat_integral(R low, R high) {
  const R a = clamp_to(low, R(-1), R(0)), b = clamp_to(high, R(-1), R(0));
  const R c = clamp_to(low, R(0), R(1)), d = clamp_to(high, R(0), R(1));
  return (b - a) * (R(1) + R(0.5) * (a + b)) + (d - c) * (R(1) - R(0.5) * (c + d));
}

// Mean of the hat of a cell over bin q of [low, high], and its derivatives in low and high.
struct BinWeight {
  double mean, by_low, by_high;
};

FT_HD BinWeight bin_weight(double low, double high, int64_t q, int64_t bins, int64_t cell) {
  const double n = static_cast<double>(bins), j = static_cast<double>(cell);
  const double begin = bin_edge(low, high, q, bins) - j, end = bin_edge(low, high, q + 1, bins) - j;
  const double per_width = n / (high - low);
  const double mean = hat_integral(begin, end) * per_width;
  // edge(q) = low·(1 − q/n) + high·q/n, width = (high − low)/n
  const double from = static_cast<double>(q) / n, to = static_cast<double>(q + 1) / n;
  const double at_begin = hat(begin), at_end = hat(end);
  return {mean, per_width * (at_end * (1.0 - to) - at_begin * (1.0 - from) + mean / n),
          per_width * (at_end * to - at_begin * from - mean / n)};
}

}  // namespace ft
