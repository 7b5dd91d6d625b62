// Gradients of RoI pooling in the features and in the RoIs' coordinates.
//
// In the features: each thread owns blocks of channels of an image and adds its RoIs in order, so that the sums
// do not depend on the number of threads. In the coordinates: both axes come from the dot products of the
// incoming gradient with the pooled rows (x) and of its spread with the map (y), times the weights' derivatives.
#include "cpu/prroi_tiles.h"
#include "prroi_pool.h"

namespace ft {
namespace FT_ISA {
namespace {

// Floats per row of a map that is written in whole eights.
int64_t padded_row(const PrroiRois& r) { return (r.width + 7) / 8 * 8; }

struct SpreadScratch {
  float* map;     // height × width × channels, or channels × height × padded row
  float* spread;  // P × columns × channels, or strips: the gradient of the rows pooled in y
  float* tile;    // P·Q × kChannels

  SpreadScratch(const PrroiFeaturesGradientArgs& a, int64_t channels, Carver& c) {
    map = c.take<float>(a.rois.height * padded_row(a.rois) * channels);
    spread = c.take<float>(a.rois.bins_y * padded_row(a.rois) * channels);
    tile = c.take<float>(a.rois.bins_y * a.rois.bins_x * kChannels);
  }
};

// Gradient block of RoI k, channels last; channels beyond the last are 0.
void load_tile(const float* grad, int64_t channels, int64_t outputs, int64_t k, int64_t block, float* tile) {
  const int64_t width = block_width(channels, block);
  if (width < kChannels) std::memset(tile, 0, outputs * kChannels * sizeof(float));
  transpose_matrix(grad + (k * channels + block * kChannels) * outputs, outputs, width, outputs, tile, kChannels);
}

// Blocks of one thread lie a whole RoI apart: the hardware does not foresee the next.
void prefetch_tile(const float* grad, int64_t channels, int64_t outputs, int64_t k, int64_t block) {
  const float* from = grad + (k * channels + block * kChannels) * outputs;
  for (int64_t i = 0; i < block_width(channels, block) * outputs; i += 16) __builtin_prefetch(from + i);
}

// spread[p][j] += Σ_q wx[q, j]·tile[p·Q + q] of RoI k.
void spread_x(const Plan& plan, int64_t k, const Span& columns, const float* tile, float* spread) {
  const int64_t bins = plan.x.bins, row = columns.size() * kChannels;
  for (int64_t p = 0; p < plan.y.bins; ++p, spread += row) {
    for (int64_t q = 0; q < bins; ++q, tile += kChannels) {
      float* cell = spread + (plan.x.begin(k, q) - columns.begin) * kChannels;
      const float* w = plan.x.weights(k, q);
      const Lanes g = Lanes::from(tile);
      const int64_t count = plan.x.number(k, q);
      if (count == 3) {
        for (int t = 0; t < 3; ++t) add_to(cell + t * kChannels, w[t], g);
        continue;
      }
      for (int64_t t = 0; t < count; ++t) add_to(cell + t * kChannels, w[t], g);
    }
  }
}

// map[i][j] += Σ_p wy[p, i]·spread[p][j] of a run that begins with RoI k.
void spread_y(const Plan& plan, int64_t k, const Span& columns, const float* spread, int64_t width, float* map) {
  for (int64_t p = 0; p < plan.y.bins; ++p) {
    const float* w = plan.y.weights(k, p);
    for (int64_t t = 0; t < plan.y.number(k, p); ++t) {
      float* row = map + (plan.y.begin(k, p) + t) * width * kChannels;
      for (int64_t j = columns.begin; j < columns.end; ++j)
        add_to(row + j * kChannels, w[t], Lanes::from(spread + (p * columns.size() + j - columns.begin) * kChannels));
    }
  }
}

void features_gradient_block(const PrroiFeaturesGradientArgs& a, const Plan& plan, int64_t n, int64_t channel,
                             int64_t width, const SpreadScratch& s) {
  const int64_t b = channel / kChannels;
  const int64_t cells = a.rois.height * a.rois.width, outputs = a.rois.bins_y * a.rois.bins_x;
  std::memset(s.map, 0, cells * kChannels * sizeof(float));
  const int64_t until = plan.image_begin[n + 1];
  Span columns;
  for (int64_t from = plan.image_begin[n]; from < until;) {
    const int64_t end = plan.run_end(from, until, &columns);
    std::memset(s.spread, 0, a.rois.bins_y * columns.size() * kChannels * sizeof(float));
    for (int64_t at = from; at < end; ++at) {
      load_tile(a.grad, a.channels, outputs, plan.order[at], b, s.tile);
      if (at + 1 < until) prefetch_tile(a.grad, a.channels, outputs, plan.order[at + 1], b);
      spread_x(plan, plan.order[at], columns, s.tile, s.spread);
    }
    spread_y(plan, plan.order[from], columns, s.spread, a.rois.width, s.map);
    from = end;
  }
  transpose_matrix(s.map, kChannels, cells, width, a.out + (n * a.channels + channel) * cells, cells);
}

#if FT_LANES >= 8
// Channels per task of the tiles: as many as a thread has, so that it reads the gradient from end to end, which is
// most of the time; but strips and map have to stay in the second cache.
int64_t spread_channels(int64_t channels, int threads) {
  constexpr int64_t kMost = 256;
  const int64_t blocks = (channel_blocks(channels) + threads - 1) / threads;
  return blocks * kChannels < kMost ? blocks * kChannels : kMost;
}

// The same for tiles of N × N bins and `width` channels.
template <int N>
void features_gradient_tiles(const PrroiFeaturesGradientArgs& a, const Plan& plan, int64_t n, int64_t channel,
                             int64_t width, const SpreadScratch& s) {
  const int64_t row = padded_row(a.rois), rows = width * a.rois.height;
  const auto tiles = [&](int64_t at) { return a.grad + (plan.order[at] * a.channels + channel) * N * N; };
  std::memset(s.map, 0, rows * row * sizeof(float));
  const int64_t until = plan.image_begin[n + 1];
  Span columns;
  for (int64_t from = plan.image_begin[n]; from < until;) {
    const int64_t end = plan.run_end(from, until, &columns);
    columns = {columns.begin / 8 * 8, (columns.end + 7) / 8 * 8};
    std::memset(s.spread, 0, groups_of<N>(width) * columns.size() * 8 * sizeof(float));
    for (int64_t at = from; at < end; ++at)
      spread_tiles<N>(plan, plan.order[at], width, columns, tiles(at), tiles(at + 1 < until ? at + 1 : at), s.spread);
    spread_strips<N>(plan, plan.order[from], width, columns, s.spread, row, s.map);
    from = end;
  }
  float* out = a.out + (n * a.channels + channel) * a.rois.height * a.rois.width;
  for (int64_t i = 0; i < rows; ++i) std::memcpy(out + i * a.rois.width, s.map + i * row, a.rois.width * sizeof(float));
}
#endif

}  // namespace

void prroi_features_gradient(const PrroiFeaturesGradientArgs& a) {
  if (a.rois.images * a.channels * a.rois.height * a.rois.width == 0) return;
  const Plan plan(a.rois);
  const int threads = threads_for(a.rois.count * a.channels * a.rois.bins_y * a.rois.bins_x);
  auto spread = features_gradient_block;
  int64_t width = kChannels;
#if FT_LANES >= 8
  const int64_t side = tile_side(a.rois, a.channels);
  if (side != 0 && plan.long_runs()) {
    spread = side == 8 ? features_gradient_tiles<8> : features_gradient_tiles<4>;
    width = spread_channels(a.channels, threads);
  }
#endif
  const int64_t parts = (a.channels + width - 1) / width, tasks = a.rois.images * parts;
  PerThread<SpreadScratch, false> scratch(threads, a, width);  // written before it is read
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t channel = task % parts * width, left = a.channels - channel;
    spread(a, plan, task / parts, channel, left < width ? left : width, scratch.of(thread_index(), a, width));
  }
}

namespace {

struct SlopeScratch {
  float* pooled_y;  // P × columns × kChannels
  float* spread;    // the same of the incoming gradient
  float* tile;      // P·Q × kChannels
  vf *by_x, *by_y;  // Q × taps and P × taps: d value / d weight, lane by lane

  SlopeScratch(const PrroiRoisGradientArgs& a, const Plan& plan, Carver& c) {
    pooled_y = c.take<float>(a.rois.bins_y * a.rois.width * kChannels);
    spread = c.take<float>(a.rois.bins_y * a.rois.width * kChannels);
    tile = c.take<float>(a.rois.bins_y * a.rois.bins_x * kChannels);
    by_x = c.take<vf>(plan.x.bins * plan.x.taps);
    by_y = c.take<vf>(plan.y.bins * plan.y.taps);
  }
};

FT_INLINE vf dot(const Lanes& a, const float* b) {
  vf total = a.v[0] * load(b);
  for (int i = 1; i < kVectors; ++i) total += a.v[i] * load(b + i * FT_LANES);
  return total;
}

// by_x[q][t] += ⟨tile[p, q], pooled_y[p][first + t]⟩ over p.
void slopes_in_x(const Plan& plan, int64_t k, const Span& columns, const SlopeScratch& s) {
  const float *tile = s.tile, *row = s.pooled_y;
  for (int64_t p = 0; p < plan.y.bins; ++p, row += columns.size() * kChannels) {
    for (int64_t q = 0; q < plan.x.bins; ++q, tile += kChannels) {
      const float* cell = row + (plan.x.begin(k, q) - columns.begin) * kChannels;
      const Lanes g = Lanes::from(tile);
      for (int64_t t = 0; t < plan.x.number(k, q); ++t) s.by_x[q * plan.x.taps + t] += dot(g, cell + t * kChannels);
    }
  }
}

// by_y[p][t] += ⟨spread[p], F[first + t]⟩ over the window's columns.
void slopes_in_y(const FeatureBlocks& f, const Plan& plan, int64_t k, int64_t b, const Span& columns,
                 const SlopeScratch& s) {
  const float* cell = s.spread;
  for (int64_t p = 0; p < plan.y.bins; ++p) {
    for (int64_t j = columns.begin; j < columns.end; ++j, cell += kChannels) {
      const Lanes g = Lanes::from(cell);
      for (int64_t t = 0; t < plan.y.number(k, p); ++t)
        s.by_y[p * plan.y.taps + t] += dot(g, f.at(plan.roi[k].image, b, plan.y.begin(k, p) + t, j));
    }
  }
}

void rois_gradient_of(const PrroiRoisGradientArgs& a, const Plan& plan, const FeatureBlocks& f, int64_t k,
                      const SlopeScratch& s) {
  const Span columns = plan.window_x[k];
  const int64_t outputs = a.rois.bins_y * a.rois.bins_x;
  std::memset(static_cast<void*>(s.by_x), 0, plan.x.bins * plan.x.taps * sizeof(vf));
  std::memset(static_cast<void*>(s.by_y), 0, plan.y.bins * plan.y.taps * sizeof(vf));
  for (int64_t b = 0; b < channel_blocks(a.channels); ++b) {
    load_tile(a.grad, a.channels, outputs, k, b, s.tile);
    pool_y(f, plan, k, b, columns, s.pooled_y);
    slopes_in_x(plan, k, columns, s);
    std::memset(s.spread, 0, a.rois.bins_y * columns.size() * kChannels * sizeof(float));
    spread_x(plan, k, columns, s.tile, s.spread);
    slopes_in_y(f, plan, k, b, columns, s);
  }
  double* out = a.out + 5 * k;
  const Roi& roi = plan.roi[k];
  const auto slope = [](const vf* by, int64_t at) { return static_cast<double>(sum(by[at])); };
  coordinate_gradient(plan.x, k, roi.x1, roi.x2, a.rois.scale, s.by_x, slope, out + 1, out + 3);
  coordinate_gradient(plan.y, k, roi.y1, roi.y2, a.rois.scale, s.by_y, slope, out + 2, out + 4);
}

}  // namespace

void prroi_rois_gradient(const PrroiRoisGradientArgs& a) {
  if (a.rois.count == 0) return;
  std::memset(a.out, 0, 5 * a.rois.count * sizeof(double));
  if (a.channels == 0) return;
  const Plan plan(a.rois);
  const int64_t proper = plan.proper();
  if (proper == 0) return;
  const FeatureBlocks features(a, plan);
  const int threads = threads_for(proper * a.channels * a.rois.bins_y * a.rois.bins_x);
  PerThread<SlopeScratch> scratch(threads, a, plan);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t at = 0; at < proper; ++at)
    rois_gradient_of(a, plan, features, plan.order[at], scratch.of(thread_index(), a, plan));
}

}  // namespace FT_ISA
}  // namespace ft
