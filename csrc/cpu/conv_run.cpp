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

ConvRun::ConvRun(const ConvRunArgs& a)
    : args(a),
      reduces(a.reduction.matrix != nullptr),
      base(frame_geometry(a, 0)),
      kernel(base),
      reduction{kernel, base, a.fusion},
      workspace_floats(0),
      transform_(base) {
  if (reduces) {
    kernel.channels = a.reduction.reduced;
    kernel.blocks = (kernel.channels + FT_LANES - 1) / FT_LANES;
  }
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
  block_sum.resize(static_cast<std::size_t>(std::max(base.blocks, weight_blocks())));
  for (float** p : {&weight, &mean, &square}) *p = take(weight_blocks() * block_floats);
  if (reduces) {
    for (float** p : {&reduction.lanes, &reduction.mean, &reduction.square, &reduction.turned}) {
      *p = take(reduction.floats());
    }
    if (reduction.mixes()) reduction.mixed = take(args.fusion.maps * kernel.blocks * block_floats);
    reduction.composed = take(base.weight_floats());
    reduction.gradient = take(base.weight_floats());
  }
  weight_spectra = take(base.weight_spectra_floats());
  gradient_spectra = take(base.weight_spectra_floats());
  for (float*& p : product) p = take(product_floats);
  weight_map_ = take(map_floats_);
  half_ = transform_.half_floats(columns);
  slopes_ = half_ + real_ + transform_.scratch_floats();
  own_ = slopes_ + (reduces ? reduction.slope_floats() : 0);
  scratch_ = take(own_ * max_threads());
}

void ConvRun::pack(const float* from, float* lanes) const {
  for (index r = 0; r < args.fusion.regressors; ++r) {
    pack_weight(kernel, from + r * kernel.channels * base.ku * base.kv, lanes + r * kernel.blocks * block_floats,
                false);
  }
}

void ConvRun::unpack(const float* lanes, float* to) const {
  for (index r = 0; r < args.fusion.regressors; ++r) {
    unpack_weight(kernel, lanes + r * kernel.blocks * block_floats, to + r * kernel.channels * base.ku * base.kv, 1.0f);
  }
}

void ConvRun::prepare() {
  pack(args.weight, weight);
  if (args.moments == nullptr) {
    std::fill(mean, mean + weight_blocks() * block_floats, 0.0f);
    std::fill(square, square + weight_blocks() * block_floats, 0.0f);
  } else {
    pack(args.moments, mean);
    pack(args.moments + args.fusion.regressors * kernel.channels * base.ku * base.kv, square);
  }
  if (reduces) {
    const ConvReduction& from = args.reduction;
    pack_reduction(reduction, from.matrix, reduction.lanes);
    std::fill(reduction.mean, reduction.mean + reduction.floats(), 0.0f);
    std::fill(reduction.square, reduction.square + reduction.floats(), 0.0f);
    if (from.moments != nullptr) {
      pack_reduction(reduction, from.moments, reduction.mean);
      pack_reduction(reduction, from.moments + kernel.channels * base.channels, reduction.square);
    }
    std::fill(reduction.composed, reduction.composed + base.weight_floats(), 0.0f);
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

void ConvRun::gradient_inverse(index block, float* gradient, int thread) {
  float* half = scratch(thread);
  float* work = half + half_ + real_;
  transform_.inverse_v(gradient_spectra + block * kComplex, base.blocks * kComplex, base.kv, half, work);
  transform_.inverse_u(half, base.kv, base.ku, gradient, base.ku * FT_LANES, work);
}

const float* ConvRun::gradient_inverse(index block, int thread) {
  float* real = scratch(thread) + half_;
  gradient_inverse(block, real, thread);
  return real;
}

void ConvRun::finish() const {
  unpack(weight, args.weight);
  if (args.moments != nullptr) {
    unpack(mean, args.moments);
    unpack(square, args.moments + args.fusion.regressors * kernel.channels * base.ku * base.kv);
  }
  if (!reduces) return;
  const ConvReduction& to = args.reduction;
  unpack_reduction(reduction, reduction.lanes, to.matrix);
  if (to.moments == nullptr) return;
  unpack_reduction(reduction, reduction.mean, to.moments);
  unpack_reduction(reduction, reduction.square, to.moments + kernel.channels * base.channels);
}

LossSums ConvRun::total() const {
  LossSums all;
  for (const LossSums& one : group_sum) {
    all.loss += one.loss;
    all.gradient += one.gradient;
    all.curvature += one.curvature;
    all.total += one.total;
    all.objective += one.objective;
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
    vf squares = {}, changes = {}, weights = {};
    for (index i = v; i < v + column; i += FT_LANES) {
      const vf at = load(w + i), r = load(gradient + i) * scale - decay * at;
      weights += at * at;
      squares += r * r;
      changes += r * (r - load(residual + i));
      store(residual + i, r);
    }
    sums.residual_square += sum(squares);
    sums.residual_change += sum(changes);
    sums.weight_square += sum(weights);
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

void ConvRun::sum_squares(index block) {
  const float* w = weight + block * block_floats;
  const index column = base.ku * FT_LANES;
  double total = 0;
  for (index v = 0; v < base.kv * column; v += column) {
    vf squares = {};
    for (index i = v; i < v + column; i += FT_LANES) squares += load(w + i) * load(w + i);
    total += sum(squares);
  }
  block_sum[static_cast<std::size_t>(block)].weight_square = args.fusion.decays[block / kernel.blocks] * total;
}

void ConvRun::sum_reduction_squares(index block) {
  const float* a = reduction.lanes + block * reduction.block_floats();
  vf squares = {};
  for (index i = 0; i < reduction.block_floats(); i += FT_LANES) squares += load(a + i) * load(a + i);
  block_sum[static_cast<std::size_t>(block)].reduction_square = sum(squares);
}

BlockSums ConvRun::block_total() const {
  BlockSums all;
  for (const BlockSums& one : block_sum) {
    all.weight_square += one.weight_square;
    all.reduction_square += one.reduction_square;
    all.residual_square += one.residual_square;
    all.residual_change += one.residual_change;
    all.slope += one.slope;
    all.direction_square += one.direction_square;
  }
  return all;
}

double ConvRun::penalty() const {
  const BlockSums sums = block_total();
  return args.weight_decay * sums.weight_square + args.reduction.weight_decay * sums.reduction_square;
}

void ConvRun::record(int64_t step, const LossSums& sums) const {
  args.history[2 * step] = sums.loss;
  args.history[2 * step + 1] = std::exp(sums.peak - sums.total / static_cast<double>(positions_));
  args.counts[1] = step + 1;
}

}  // namespace FT_ISA
}  // namespace ft
