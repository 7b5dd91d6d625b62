// Cells and weights of the bins of every RoI.
#include "cpu/prroi_plan.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int64_t kParallelRois = 128;

// Weights that a bin of this width can need: whole numbers in an open interval of width + 2.
int64_t taps_of(double extent, int64_t bins, int64_t size) {
  const double width = extent / static_cast<double>(bins);
  const double most = width + 3.0;
  return most < static_cast<double>(size) ? static_cast<int64_t>(most) : size;
}

Span fill(AxisBins& axis, int64_t k, double low, double high) {
  const double per_width = static_cast<double>(axis.bins) / (high - low);
  Span window = {0, 0};
  double begin = low;
  for (int64_t q = 0; q < axis.bins; ++q) {
    const double end = bin_edge(low, high, q + 1, axis.bins);
    const CellRange cells = cells_of(begin, end, axis.size);
    const int64_t at = k * axis.bins + q;
    axis.first[at] = static_cast<int32_t>(cells.first);
    axis.count[at] = static_cast<int32_t>(cells.count < axis.taps ? cells.count : axis.taps);
    float* weight = axis.weight + at * axis.taps;
    for (int64_t t = 0; t < axis.count[at]; ++t) {
      const double j = static_cast<double>(cells.first + t);
      weight[t] = static_cast<float>(hat_integral(begin - j, end - j) * per_width);
    }
    window.include({cells.first, cells.first + axis.count[at]});
    begin = end;
  }
  return window;
}

}  // namespace

void Plan::carve_lists(Carver& c, const PrroiRois& r) {
  roi = c.take<Roi>(r.count);
  window_y = c.take<Span>(r.count);
  window_x = c.take<Span>(r.count);
  region_y = c.take<Span>(r.images);
  region_x = c.take<Span>(r.images);
  order = c.take<int64_t>(r.count);
  image_begin = c.take<int64_t>(r.images + 1);
}

void Plan::carve_axes(Carver& c, int64_t count) {
  AxisBins* const both[2] = {&y, &x};
  for (AxisBins* axis : both) {
    axis->first = c.take<int32_t>(count * axis->bins);
    axis->count = c.take<int32_t>(count * axis->bins);
    axis->slot = c.take<int64_t>(count);
    axis->weight = c.take<float>(count * axis->bins * axis->taps);
  }
}

// In a grid a RoI has the y edges of the one before it, and the x edges of the one at its place in the row before.
void Plan::share(int64_t count) {
  int64_t row = 0, row_before = 0;
  for (int64_t k = 0; k < count; ++k) {
    y.slot[k] = x.slot[k] = k;
    if (roi[k].kind != RoiKind::Proper) continue;
    if (k > row && roi[k - 1].kind == RoiKind::Proper && roi[k].y1 == roi[k - 1].y1 && roi[k].y2 == roi[k - 1].y2) {
      y.slot[k] = y.slot[k - 1];
    } else {
      row_before = row;
      row = k;
    }
    const int64_t above = row_before + k - row;
    if (above < row && roi[above].kind == RoiKind::Proper && roi[k].x1 == roi[above].x1 && roi[k].x2 == roi[above].x2)
      x.slot[k] = x.slot[above];
  }
}

// Counting sort of the proper RoIs by image, and the cells that each image's RoIs meet.
void Plan::group(int64_t count) {
  for (int64_t n = 0; n <= images_; ++n) image_begin[n] = 0;
  for (int64_t n = 0; n < images_; ++n) region_y[n] = region_x[n] = {0, 0};
  for (int64_t k = 0; k < count; ++k) {
    if (roi[k].kind != RoiKind::Proper) continue;
    const int64_t n = roi[k].image;
    ++image_begin[n + 1];
    region_y[n].include(window_y[k]);
    region_x[n].include(window_x[k]);
  }
  for (int64_t n = 0; n < images_; ++n) image_begin[n + 1] += image_begin[n];
  for (int64_t k = 0; k < count; ++k) {
    if (roi[k].kind == RoiKind::Proper) order[image_begin[roi[k].image]++] = k;
  }
  // Each begin has moved to the next one's place.
  for (int64_t n = images_; n > 0; --n) image_begin[n] = image_begin[n - 1];
  image_begin[0] = 0;
}

Plan::Plan(const PrroiRois& r) : images_(r.images) {
  Carver counter(nullptr);
  carve_lists(counter, r);
  Carver lists(lists_.allocate(counter.used()));
  carve_lists(lists, r);
  y = {r.bins_y, 1, r.height, nullptr, nullptr, nullptr, nullptr};
  x = {r.bins_x, 1, r.width, nullptr, nullptr, nullptr, nullptr};
  for (int64_t k = 0; k < r.count; ++k) {
    roi[k] = read_roi(r, k);
    if (roi[k].kind != RoiKind::Proper) continue;
    const int64_t taps_y = taps_of(roi[k].y2 - roi[k].y1, y.bins, y.size);
    const int64_t taps_x = taps_of(roi[k].x2 - roi[k].x1, x.bins, x.size);
    if (taps_y > y.taps) y.taps = taps_y;
    if (taps_x > x.taps) x.taps = taps_x;
  }
  Carver second(nullptr);
  carve_axes(second, r.count);
  Carver axes(axes_.allocate(second.used()));
  carve_axes(axes, r.count);
  share(r.count);
#pragma omp parallel for schedule(static) if (r.count >= kParallelRois)
  for (int64_t k = 0; k < r.count; ++k) {
    if (roi[k].kind != RoiKind::Proper) continue;
    if (y.slot[k] == k) window_y[k] = fill(y, k, roi[k].y1, roi[k].y2);
    if (x.slot[k] == k) window_x[k] = fill(x, k, roi[k].x1, roi[k].x2);
  }
  for (int64_t k = 0; k < r.count; ++k) {
    if (roi[k].kind != RoiKind::Proper) continue;
    window_y[k] = window_y[y.slot[k]];
    window_x[k] = window_x[x.slot[k]];
  }
  group(r.count);
}

int64_t Plan::run_end(int64_t from, int64_t until, Span* columns) const {
  const Roi& first = roi[order[from]];
  *columns = window_x[order[from]];
  int64_t at = from + 1;
  for (; at < until; ++at) {
    const Roi& next = roi[order[at]];
    if (next.image != first.image || next.y1 != first.y1 || next.y2 != first.y2) break;
    Span joined = *columns;
    joined.include(window_x[order[at]]);
    if (joined.size() > columns->size() + window_x[order[at]].size()) break;
    *columns = joined;
  }
  return at;
}

bool Plan::long_runs() const {
  int64_t runs = 0;
  for (int64_t at = 0; at < proper(); ++at) runs += at == 0 || y.slot[order[at]] != y.slot[order[at - 1]];
  return runs * 4 <= proper();
}

}  // namespace FT_ISA
}  // namespace ft
