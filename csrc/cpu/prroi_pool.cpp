// Forward RoI pooling: each run of RoIs is pooled in y once, then each RoI in x.
//
// Channels are last inside: a bin's weight multiplies whole vectors, whatever the number of bins. A bin meets
// about width + 2 cells per axis, so the two small products cost (width + 2)·(2 or less) per output.
#include "prroi_pool.h"

#include "cpu/prroi_tiles.h"

namespace ft {
namespace FT_ISA {
namespace {

struct Scratch {
  float* pooled_y;  // P × columns × kChannels, or strips
  float* tile;      // P·Q × kChannels

  Scratch(const PrroiPoolArgs& a, Carver& c) {
    pooled_y = c.take<float>(a.rois.bins_y * a.rois.width * kChannels);
    tile = c.take<float>(a.rois.bins_y * a.rois.bins_x * kChannels);
  }
};

// tile[p·Q + q] = Σ_j wx[q, j]·pooled_y[p][j] of RoI k.
void pool_x(const Plan& plan, int64_t k, const Span& columns, const float* pooled_y, float* tile) {
  const int64_t bins = plan.x.bins, row = columns.size() * kChannels;
  for (int64_t p = 0; p < plan.y.bins; ++p, pooled_y += row) {
    for (int64_t q = 0; q < bins; ++q, tile += kChannels) {
      const float* cell = pooled_y + (plan.x.begin(k, q) - columns.begin) * kChannels;
      weighted_sum(plan.x.weights(k, q), cell, kChannels, plan.x.number(k, q)).to(tile);
    }
  }
}

void pool_run(const PrroiPoolArgs& a, const Plan& plan, const FeatureBlocks& f, int64_t from, int64_t until,
              const Span& columns, const Scratch& s) {
  const int64_t outputs = a.rois.bins_y * a.rois.bins_x;
  for (int64_t b = 0; b < channel_blocks(a.channels); ++b) {
    const int64_t width = block_width(a.channels, b);
    const bool stream = can_stream(a.out, a.rois.count * a.channels * outputs, outputs, width);
    pool_y(f, plan, plan.order[from], b, columns, s.pooled_y);
    for (int64_t at = from; at < until; ++at) {
      const int64_t k = plan.order[at];
      pool_x(plan, k, columns, s.pooled_y, s.tile);
      float* out = a.out + (k * a.channels + b * kChannels) * outputs;
      if (stream)
        stream_transposed(s.tile, kChannels, outputs, width, out, outputs);
      else
        transpose_matrix(s.tile, kChannels, outputs, width, out, outputs);
    }
  }
}

#if FT_LANES >= 8
// The same for tiles of N × N bins.
template <int N>
void pool_tiles_run(const PrroiPoolArgs& a, const Plan& plan, const FeatureBlocks& f, int64_t from, int64_t until,
                    const Span& columns, const Scratch& s) {
  const bool stream = can_stream(a.out, a.rois.count * a.channels * N * N, N * N, 8);
  for (int64_t b = 0; b < channel_blocks(a.channels); ++b) {
    const int64_t width = block_width(a.channels, b);
    pool_strips<N>(f, plan, plan.order[from], b, width, columns, s.pooled_y);
    for (int64_t at = from; at < until; ++at) {
      const int64_t k = plan.order[at];
      float* out = a.out + (k * a.channels + b * kChannels) * N * N;
      stream ? pool_tiles<N, true>(plan, k, width, columns, s.pooled_y, out)
             : pool_tiles<N, false>(plan, k, width, columns, s.pooled_y, out);
    }
  }
}
#endif

// Values of the RoIs that have none: 0 where empty, NaN where undefined.
void fill_improper(const PrroiPoolArgs& a, const Plan& plan) {
  const int64_t size = a.channels * a.rois.bins_y * a.rois.bins_x;
  for (int64_t k = 0; k < a.rois.count; ++k) {
    if (plan.roi[k].kind == RoiKind::Proper) continue;
    const float value = plan.roi[k].kind == RoiKind::Empty ? 0.0f : __builtin_nanf("");
    for (int64_t i = 0; i < size; ++i) a.out[k * size + i] = value;
  }
}

}  // namespace

void prroi_pool(const PrroiPoolArgs& a) {
  if (a.rois.count == 0 || a.channels == 0) return;
  const Plan plan(a.rois);
  fill_improper(a, plan);
  const int64_t proper = plan.proper();
  if (proper == 0) return;
  hint_huge_pages(a.out, a.rois.count * a.channels * a.rois.bins_y * a.rois.bins_x * 4);
  const FeatureBlocks features(a, plan);
  auto run = pool_run;
#if FT_LANES >= 8
  const int64_t side = tile_side(a.rois, a.channels);
  if (side == 8) run = pool_tiles_run<8>;
  // A lone RoI of 4 × 4 bins has more columns of cells than of bins to transpose.
  if (side == 4 && plan.long_runs()) run = pool_tiles_run<4>;
#endif
  const int threads = threads_for(proper * a.channels * a.rois.bins_y * a.rois.bins_x);
  // A few parts per thread balance RoIs of unequal cost and still leave runs whole on one thread.
  const int64_t parts = threads == 1 ? 1 : (proper < 4 * threads ? proper : 4 * threads);
  PerThread<Scratch> scratch(threads, a);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t part = 0; part < parts; ++part) {
    const Scratch s = scratch.of(thread_index(), a);
    const int64_t until = proper * (part + 1) / parts;
    Span columns;
    for (int64_t from = proper * part / parts; from < until;) {
      const int64_t end = plan.run_end(from, until, &columns);
      run(a, plan, features, from, end, columns, s);
      from = end;
    }
    stream_end();
  }
}

}  // namespace FT_ISA
}  // namespace ft
