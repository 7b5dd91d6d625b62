// Sum over the bins of a RoI of the mean of each bin's own map, and its gradients.
//
// Maps are height × width × P × Q. A run of RoIs that share y1 and y2 sums in y once, over all p, which leaves
// Q numbers per column; each RoI of it then sums Q·taps of those, in a grid for eight rows of RoIs at once.
#include "cpu/matrix_transpose.h"
#include "cpu/prroi_plan.h"
#include "prroi_pool.h"

namespace ft {
namespace FT_ISA {
namespace {

constexpr int kTogether = 8;  // runs with the same columns that are summed in x at once
typedef float octet __attribute__((vector_size(32)));

FT_INLINE octet load_octet(const float* p) {
  octet v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

struct SumScratch {
  float* rows;   // kTogether × columns × Q
  float* lanes;  // columns × Q × kTogether

  SumScratch(const PrroiRois& r, Carver& c) {
    rows = c.take<float>(kTogether * r.width * r.bins_x);
    lanes = c.take<float>(kTogether * r.width * r.bins_x);
  }
};

struct Layout {
  int64_t row, cell, bins_x;  // floats per row of the map, per cell, per p

  explicit Layout(const PrroiRois& r)
      : row(r.width * r.bins_y * r.bins_x), cell(r.bins_y * r.bins_x), bins_x(r.bins_x) {}
};

// Compile-time Q where it is a whole vector or two: most of the time goes here.
template <int64_t Q>
FT_INLINE void add_columns(const float* map, int64_t cell, int64_t count, int64_t bins, float w, float* rows) {
  const int64_t n = Q > 0 ? Q : bins;
  for (int64_t j = 0; j < count; ++j, map += cell, rows += n) {
#pragma omp simd
    for (int64_t q = 0; q < n; ++q) rows[q] += w * map[q];
  }
}

// rows[j][q] = Σ_p Σ_i wy[p, i]·maps[i][j][p][q] for the columns of a run that begins with RoI k.
void sum_y(const float* maps, const Layout& at, const Plan& plan, int64_t k, const Span& columns, float* rows) {
  std::memset(rows, 0, columns.size() * at.bins_x * sizeof(float));
  for (int64_t p = 0; p < plan.y.bins; ++p) {
    const float* w = plan.y.weights(k, p);
    for (int64_t t = 0; t < plan.y.number(k, p); ++t) {
      const float* map = maps + (plan.y.begin(k, p) + t) * at.row + columns.begin * at.cell + p * at.bins_x;
      if (at.bins_x == 8)
        add_columns<8>(map, at.cell, columns.size(), 8, w[t], rows);
      else if (at.bins_x == 4)
        add_columns<4>(map, at.cell, columns.size(), 4, w[t], rows);
      else
        add_columns<0>(map, at.cell, columns.size(), at.bins_x, w[t], rows);
    }
  }
}

// Σ_q Σ_j wx[q, j]·rows[j − begin][q] of RoI k, rows `stride` floats apart.
float sum_x(const Plan& plan, int64_t k, int64_t begin, int64_t stride, const float* rows) {
  float total = 0;
  for (int64_t q = 0; q < plan.x.bins; ++q) {
    const float* w = plan.x.weights(k, q);
    const float* cell = rows + (plan.x.begin(k, q) - begin) * stride + q;
    float sum = 0;
    for (int64_t t = 0; t < plan.x.number(k, q); ++t) sum += w[t] * cell[t * stride];
    total += sum;
  }
  return total;
}

// The same of kTogether runs side by side, `lanes` one cell of Q after the other.
octet sum_x_together(const Plan& plan, int64_t k, int64_t begin, const float* lanes) {
  const int64_t bins = plan.x.bins;
  octet total = {};
  for (int64_t q = 0; q < bins; ++q) {
    const float* w = plan.x.weights(k, q);
    const float* cell = lanes + ((plan.x.begin(k, q) - begin) * bins + q) * kTogether;
    octet sum = {};
    for (int64_t t = 0; t < plan.x.number(k, q); ++t) sum += (w[t] - octet{}) * load_octet(cell + t * bins * kTogether);
    total += sum;
  }
  return total;
}

// How many runs as long as the one of `from` … end − 1, and with the same columns, begin there (at most kTogether).
int64_t runs_together(const Plan& plan, int64_t from, int64_t end, int64_t until) {
  const int64_t length = end - from;
  int64_t runs = 1;
  for (; runs < kTogether && end + length <= until; ++runs, end += length) {
    Span columns;
    if (plan.run_end(end, until, &columns) != end + length) break;
    int64_t i = 0;
    while (i < length && plan.x.slot[plan.order[end + i]] == plan.x.slot[plan.order[from + i]]) ++i;
    if (i < length) break;
  }
  return runs;
}

// Sums of some runs of `length` RoIs each that begin at `from` and have the same columns.
void sum_runs(const PrroiBinSumArgs& a, const Layout& at, const Plan& plan, int64_t from, int64_t length, int64_t runs,
              const Span& columns, const SumScratch& s) {
  const int64_t row = columns.size() * at.bins_x;
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t k = plan.order[from + run * length];
    sum_y(a.maps + plan.roi[k].image * a.rois.height * at.row, at, plan, k, columns, s.rows + run * row);
  }
  if (runs == 1) {
    for (int64_t i = from; i < from + length; ++i)
      a.out[plan.order[i]] = sum_x(plan, plan.order[i], columns.begin, at.bins_x, s.rows);
    return;
  }
  transpose_matrix(s.rows, row, kTogether, row, s.lanes, kTogether);
  for (int64_t i = from; i < from + length; ++i) {
    const octet total = sum_x_together(plan, plan.order[i], columns.begin, s.lanes);
    for (int64_t run = 0; run < runs; ++run) a.out[plan.order[i + run * length]] = total[run];
  }
}

// out[i][j][p][·] += wy[p, i]·rows[j][·] for one p of a run that begins with RoI k.
void spread_sum(const Plan& plan, const Layout& at, int64_t k, int64_t p, const Span& columns, const float* rows,
                float* out) {
  const float* w = plan.y.weights(k, p);
  for (int64_t t = 0; t < plan.y.number(k, p); ++t) {
    float* map = out + (plan.y.begin(k, p) + t) * at.row + columns.begin * at.cell + p * at.bins_x;
    for (int64_t j = 0; j < columns.size(); ++j)
      for (int64_t q = 0; q < at.bins_x; ++q) map[j * at.cell + q] += w[t] * rows[j * at.bins_x + q];
  }
}

// rows[j][q] += grad·wx[q, j] of RoI k.
void spread_score(const Plan& plan, int64_t k, const Span& columns, float grad, float* rows) {
  for (int64_t q = 0; q < plan.x.bins; ++q) {
    const float* w = plan.x.weights(k, q);
    float* cell = rows + (plan.x.begin(k, q) - columns.begin) * plan.x.bins + q;
    for (int64_t t = 0; t < plan.x.number(k, q); ++t) cell[t * plan.x.bins] += grad * w[t];
  }
}

void rois_gradient_of(const PrroiBinSumRoisGradientArgs& a, const Layout& at, const Plan& plan, int64_t k,
                      float* rows) {
  const Roi& roi = plan.roi[k];
  const float* maps = a.maps + roi.image * a.rois.height * at.row;
  const Span columns = plan.window_x[k];
  const double g = static_cast<double>(a.grad[k]);
  double* out = a.out + 5 * k;
  sum_y(maps, at, plan, k, columns, rows);
  const auto slope_x = [&](const float* summed, int64_t index) {
    const int64_t q = index / plan.x.taps, j = plan.x.begin(k, q) + index % plan.x.taps;
    return g * static_cast<double>(summed[(j - columns.begin) * plan.x.bins + q]);
  };
  coordinate_gradient(plan.x, k, roi.x1, roi.x2, a.rois.scale, rows, slope_x, out + 1, out + 3);
  const auto slope_y = [&](const float* map, int64_t index) {
    const int64_t p = index / plan.y.taps, i = plan.y.begin(k, p) + index % plan.y.taps;
    return g * static_cast<double>(sum_x(plan, k, 0, at.cell, map + i * at.row + p * at.bins_x));
  };
  coordinate_gradient(plan.y, k, roi.y1, roi.y2, a.rois.scale, maps, slope_y, out + 2, out + 4);
}

}  // namespace

void prroi_bin_sum(const PrroiBinSumArgs& a) {
  if (a.rois.count == 0) return;
  const Plan plan(a.rois);
  const Layout at(a.rois);
  for (int64_t k = 0; k < a.rois.count; ++k)
    a.out[k] = plan.roi[k].kind == RoiKind::Undefined ? __builtin_nanf("") : 0.0f;
  const int64_t proper = plan.proper();
  const int threads = threads_for(proper * a.rois.bins_y * a.rois.bins_x);
  const int64_t parts = threads == 1 ? 1 : 4 * threads;
  PerThread<SumScratch> scratch(threads, a.rois);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t part = 0; part < parts; ++part) {
    const SumScratch s = scratch.of(thread_index(), a.rois);
    const int64_t until = proper * (part + 1) / parts;
    Span columns;
    for (int64_t from = proper * part / parts; from < until;) {
      const int64_t length = plan.run_end(from, until, &columns) - from;
      const int64_t runs = runs_together(plan, from, from + length, until);
      sum_runs(a, at, plan, from, length, runs, columns, s);
      from += runs * length;
    }
  }
}

// Each task owns some bin rows p of an image: the sums do not depend on the number of threads.
void prroi_bin_sum_maps_gradient(const PrroiBinSumMapsGradientArgs& a) {
  const Layout at(a.rois);
  std::memset(a.out, 0, a.rois.images * a.rois.height * at.row * sizeof(float));
  if (a.rois.count == 0) return;
  const Plan plan(a.rois);
  const int threads = threads_for(plan.proper() * a.rois.bins_y * a.rois.bins_x);
  const int64_t parts = threads < a.rois.bins_y ? threads : a.rois.bins_y, tasks = a.rois.images * parts;
  PerThread<SumScratch> scratch(threads, a.rois);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t task = 0; task < tasks; ++task) {
    float* rows = scratch.of(thread_index(), a.rois).rows;
    const int64_t n = task / parts, part = task % parts, until = plan.image_begin[n + 1];
    Span columns;
    for (int64_t from = plan.image_begin[n]; from < until;) {
      const int64_t end = plan.run_end(from, until, &columns), first = plan.order[from];
      std::memset(rows, 0, columns.size() * at.bins_x * sizeof(float));
      for (; from < end; ++from) spread_score(plan, plan.order[from], columns, a.grad[plan.order[from]], rows);
      for (int64_t p = a.rois.bins_y * part / parts; p < a.rois.bins_y * (part + 1) / parts; ++p)
        spread_sum(plan, at, first, p, columns, rows, a.out + n * a.rois.height * at.row);
    }
  }
}

void prroi_bin_sum_rois_gradient(const PrroiBinSumRoisGradientArgs& a) {
  if (a.rois.count == 0) return;
  std::memset(a.out, 0, 5 * a.rois.count * sizeof(double));
  const Plan plan(a.rois);
  const Layout at(a.rois);
  const int64_t proper = plan.proper();
  const int threads = threads_for(proper * a.rois.bins_y * a.rois.bins_x);
  PerThread<SumScratch> scratch(threads, a.rois);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < proper; ++i)
    rois_gradient_of(a, at, plan, plan.order[i], scratch.of(thread_index(), a.rois).rows);
}

}  // namespace FT_ISA
}  // namespace ft
