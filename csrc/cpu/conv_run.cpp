// The workspace of an optimisation, its transforms of the weight, and its sums.
#include "cpu/conv_run.h"

#include <cmath>

#include "cpu/threads.h"

namespace ft {
namespace FT_ISA {
namespace {

// The factor of the loss that depends on the target alone, and the quadratic weight of conjugate gradient.
FT_INLINE float position_weight(const LossParams& loss, float y) {
  switch (loss.form) {
    case Loss::Truncated:
      return fast_exp(2.0f * loss.a * y);
    case Loss::ShrinkageModified:
    case Loss::ShrinkageOriginal:
      return fast_exp(y);
    default:
      return 1.0f;
  }
}

Geometry frame_geometry(const ConvRunArgs& a, index f) {
  return make_geometry({a.channels, a.frames[f].height, a.frames[f].width, a.kernel_h, a.kernel_w, a.tile_h, a.tile_w});
}

}  // namespace

float* ConvRun::take(index floats) {
  float* at = args.workspace == nullptr ? nullptr : args.workspace + workspace_floats;
  workspace_floats += (floats + 15) / 16 * 16;
  return at;
}

ConvRun::ConvRun(const ConvRunArgs& a) : args(a), base(frame_geometry(a, 0)), workspace_floats(0), transform_(base) {
  const bool carried = args.optimizer == ConvOptimizer::ConjugateGradient;
  block_floats = even(base.kv) * base.ku * FT_LANES;
  scale = transform_.scale();
  index product_floats = 0, groups = 0, columns = even(base.kv);
  real_ = block_floats;
  for (index f = 0; f < args.frame_count; ++f) {
    Frame frame{frame_geometry(args, f), args.frames[f].spectra, nullptr, nullptr, nullptr, nullptr, groups};
    const Geometry& g = frame.g;
    frame.target = take(g.tile_lanes_floats());
    frame.weight = take(g.tile_lanes_floats());
    if (carried) frame.response = take(g.tile_lanes_floats());
    if (carried) frame.direction = take(g.tile_lanes_floats());
    product_floats = std::max(product_floats, g.product_floats());
    columns = std::max(columns, even(g.vv));
    real_ = std::max(real_, even(g.vv) * g.vu * FT_LANES);
    map_floats_ = std::max(map_floats_, g.out_u * g.out_v);
    positions_ += g.out_u * g.out_v;
    groups += g.groups;
    frames.push_back(frame);
  }
  group_sum.resize(static_cast<std::size_t>(groups));
  block_sum.resize(static_cast<std::size_t>(base.blocks));
  weight = take(base.weight_floats());
  mean = take(base.weight_floats());
  square = take(base.weight_floats());
  weight_spectra = take(base.weight_spectra_floats());
  gradient_spectra = take(base.weight_spectra_floats());
  for (float*& p : product) p = take(product_floats);
  weight_map_ = take(map_floats_);
  half_ = transform_.half_floats(columns);
  own_ = half_ + real_ + transform_.scratch_floats();
  scratch_ = take(own_ * max_threads());
}

void ConvRun::prepare() {
  pack_weight(base, args.weight, weight, false);
  if (args.moments == nullptr) {
    std::fill(mean, mean + base.weight_floats(), 0.0f);
    std::fill(square, square + base.weight_floats(), 0.0f);
  } else {
    pack_weight(base, args.moments, mean, false);
    pack_weight(base, args.moments + args.channels * args.kernel_h * args.kernel_w, square, false);
  }
  for (index f = 0; f < args.frame_count; ++f) {
    const Frame& frame = frames[static_cast<std::size_t>(f)];
    const float* y = args.frames[f].target;
    const index count = frame.g.out_u * frame.g.out_v;
    for (index i = 0; i < count; ++i) weight_map_[i] = position_weight(args.loss, y[i]);
    pack_tiles(frame.g, weight_map_, frame.weight, 0.0f);
    pack_tiles(frame.g, y, frame.target, 0.0f);
  }
}

void ConvRun::weight_forward(const float* lanes, index block, int thread) {
  float* half = scratch(thread);
  float* work = half + half_ + real_;
  transform_.forward_u(lanes + block * block_floats, base.ku * FT_LANES, base.ku, base.kv, half, work);
  transform_.forward_v(half, base.kv, 0, base.half, weight_spectra + block * kComplex, base.blocks * kComplex, work);
}

const float* ConvRun::gradient_inverse(index block, int thread) {
  float* half = scratch(thread);
  float* real = half + half_;
  float* work = real + real_;
  transform_.inverse_v(gradient_spectra + block * kComplex, base.blocks * kComplex, base.kv, half, work);
  transform_.inverse_u(half, base.kv, base.ku, real, base.ku * FT_LANES, work);
  return real;
}

LossSums ConvRun::total() const {
  LossSums all;
  for (const LossSums& one : group_sum) {
    all.loss += one.loss;
    all.gradient += one.gradient;
    all.curvature += one.curvature;
    all.total += one.total;
    all.peak = one.peak > all.peak ? one.peak : all.peak;
  }
  return all;
}

void ConvRun::block_advance(index block, float along) {
  float* w = weight + block * block_floats;
  const float* d = mean + block * block_floats;
  for (index i = 0; i < base.kv * base.ku * FT_LANES; ++i) w[i] += along * d[i];
}

void ConvRun::block_residual(index block, float decay, int thread) {
  const float* gradient = gradient_inverse(block, thread);
  const float* w = weight + block * block_floats;
  float* residual = square + block * block_floats;
  BlockSums sums;
  const index column = base.ku * FT_LANES;
  for (index v = 0; v < base.kv * column; v += column) {
    vf squares = {}, changes = {};
    for (index i = v; i < v + column; i += FT_LANES) {
      const vf r = load(gradient + i) * scale - decay * load(w + i);
      squares += r * r;
      changes += r * (r - load(residual + i));
      store(residual + i, r);
    }
    sums.residual_square += sum(squares);
    sums.residual_change += sum(changes);
  }
  block_sum[static_cast<std::size_t>(block)] = sums;
}

void ConvRun::block_direction(index block, float keep) {
  const float* residual = square + block * block_floats;
  float* direction = mean + block * block_floats;
  BlockSums& sums = block_sum[static_cast<std::size_t>(block)];
  const index column = base.ku * FT_LANES;
  for (index v = 0; v < base.kv * column; v += column) {
    vf slopes = {}, squares = {};
    for (index i = v; i < v + column; i += FT_LANES) {
      const vf d = load(residual + i) + keep * load(direction + i);
      slopes += load(residual + i) * d;
      squares += d * d;
      store(direction + i, d);
    }
    sums.slope += sum(slopes);
    sums.direction_square += sum(squares);
  }
}

BlockSums ConvRun::block_total() const {
  BlockSums all;
  for (const BlockSums& one : block_sum) {
    all.residual_square += one.residual_square;
    all.residual_change += one.residual_change;
    all.slope += one.slope;
    all.direction_square += one.direction_square;
  }
  return all;
}

void ConvRun::record(int64_t step, const LossSums& sums) const {
  args.history[2 * step] = sums.loss;
  args.history[2 * step + 1] = std::exp(sums.peak - sums.total / static_cast<double>(positions_));
  args.counts[1] = step + 1;
}

}  // namespace FT_ISA
}  // namespace ft
