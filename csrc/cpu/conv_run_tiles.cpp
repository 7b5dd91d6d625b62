// What an iteration does to a group of tiles: responses, the loss and its gradient, and their spectra.
#include "cpu/conv_run.h"

namespace ft {
namespace FT_ISA {
namespace {

// regression_loss_at with its weight already known.
template <Loss form>
FT_INLINE ValueGrad loss_at(const LossParams& k, float e, float weight) {
  const float size = e < 0 ? -e : e;
  if constexpr (form == Loss::Truncated) {
    const float kept = !(size <= k.c) ? e : 0.0f;
    return {weight * kept * kept, 2.0f * weight * kept};
  } else if constexpr (form == Loss::ShrinkageModified) {
    return shrinkage_from(e, size, e < 0 ? -1.0f : 1.0f, weight, k.a, k.c);
  } else if constexpr (form == Loss::ShrinkageOriginal) {
    return shrinkage_from(e, e, 1.0f, weight, k.a, k.c);
  } else if constexpr (form == Loss::Focal) {
    return {weight * size * e * e, weight * 3.0f * size * e};
  } else {
    return {weight * e * e, weight * 2.0f * e};
  }
}

// One column of positions: gradient of the loss (may replace the response), and the sums.
template <Loss form>
void column_loss(const LossParams& k, const float* response, const float* target, const float* weight, index count,
                 float* gradient, LossSums& sums) {
  vf loss = {}, slope = {}, total = {}, peak = splat(-__builtin_inff());
  for (index i = 0; i < count; i += FT_LANES) {
    float value[FT_LANES], grad[FT_LANES], error[FT_LANES], factor[FT_LANES];
    const vf r = load(response + i), w = load(weight + i);
    const vi inside = w > 0;
    total += select(inside, r, vf{});
    const vf here = select(inside, r, peak);
    peak = here > peak ? here : peak;
    store(error, r - load(target + i));
    store(factor, w);
    for (int lane = 0; lane < FT_LANES; ++lane) {
      const ValueGrad at = loss_at<form>(k, error[lane], factor[lane]);
      value[lane] = at.value;
      grad[lane] = at.grad;
    }
    loss += load(value);
    slope += load(grad);
    store(gradient + i, load(grad));
  }
  sums.loss += sum(loss);
  sums.gradient += sum(slope);
  sums.total += sum(total);
  for (int lane = 0; lane < FT_LANES; ++lane) sums.peak = peak[lane] > sums.peak ? peak[lane] : sums.peak;
}

}  // namespace

void ConvRun::measure(const Frame& frame, index group, const float* response, float* gradient, LossSums& sums) const {
  const index rows = frame.g.vu * FT_LANES;
  for (index v = 0; v < even(frame.g.vv); ++v) {
    const index at = (group * even(frame.g.vv) + v) * rows;
    const auto column = [&](auto run) {
      run(args.loss, response + v * rows, frame.target + at, frame.weight + at, rows, gradient + v * rows, sums);
    };
    switch (args.loss.form) {
      case Loss::Truncated:
        column(column_loss<Loss::Truncated>);
        break;
      case Loss::ShrinkageModified:
        column(column_loss<Loss::ShrinkageModified>);
        break;
      case Loss::ShrinkageOriginal:
        column(column_loss<Loss::ShrinkageOriginal>);
        break;
      case Loss::Focal:
        column(column_loss<Loss::Focal>);
        break;
      case Loss::Square:
        column(column_loss<Loss::Square>);
        break;
    }
  }
}

void ConvRun::tile_loss(const Frame& frame, index group, float* product, float bias, bool want_error, int thread) {
  const Geometry& g = frame.g;
  float* half = scratch(thread);
  float* real = half + half_;
  float* work = real + real_;
  float* spectrum = product + group * g.bins * kComplex;
  transform_.inverse_v(spectrum, kComplex, g.vv, half, work);
  transform_.inverse_u(half, g.vv, g.vu, real, g.vu * FT_LANES, work);
  for (index i = 0; i < even(g.vv) * g.vu * FT_LANES; ++i) real[i] = real[i] * scale + bias;
  LossSums sums;
  measure(frame, group, real, real, sums);
  group_sum[static_cast<std::size_t>(frame.first_group + group)] = sums;
  if (!want_error) return;
  transform_.forward_u(real, g.vu * FT_LANES, g.vu, g.vv, half, work);
  transform_.forward_v(half, g.vv, 0, g.half, spectrum, kComplex, work);
}

void ConvRun::tile_direction(const Frame& frame, index group, float* product, float bias, int thread) {
  const Geometry& g = frame.g;
  const index count = even(g.vv) * g.vu * FT_LANES;
  float* half = scratch(thread);
  float* work = half + half_ + real_;
  float* direction = frame.direction + group * count;
  const float* w = frame.weight + group * count;
  transform_.inverse_v(product + group * g.bins * kComplex, kComplex, g.vv, half, work);
  transform_.inverse_u(half, g.vv, g.vu, direction, g.vu * FT_LANES, work);
  LossSums sums;
  for (index v = 0; v < count; v += g.vu * FT_LANES) {
    vf curvature = {};
    for (index i = v; i < v + g.vu * FT_LANES; i += FT_LANES) {
      const vf q = load(direction + i) * scale + bias;
      store(direction + i, q);
      curvature += load(w + i) * q * q;
    }
    sums.curvature += sum(curvature);
  }
  group_sum[static_cast<std::size_t>(frame.first_group + group)] = sums;
}

void ConvRun::tile_advance(const Frame& frame, index group, bool first, float along, int thread) {
  const index count = even(frame.g.vv) * frame.g.vu * FT_LANES;
  float* response = frame.response + group * count;
  const float* direction = frame.direction + group * count;
  for (index i = 0; i < count; ++i) response[i] = first ? direction[i] : response[i] + along * direction[i];
  LossSums sums;
  measure(frame, group, response, scratch(thread) + half_, sums);
  sums.gradient = 0;
  group_sum[static_cast<std::size_t>(frame.first_group + group)] = sums;
}

void ConvRun::tile_residual(const Frame& frame, index group, float* product, int thread) {
  const Geometry& g = frame.g;
  const index count = even(g.vv) * g.vu * FT_LANES, at = group * count;
  float* half = scratch(thread);
  float* real = half + half_;
  float* work = real + real_;
  double total = 0, objective = 0;
  for (index v = 0; v < count; v += g.vu * FT_LANES) {
    vf part = {}, squares = {};
    for (index i = v; i < v + g.vu * FT_LANES; i += FT_LANES) {
      const vf gap = load(frame.target + at + i) - load(frame.response + at + i);
      const vf e = load(frame.weight + at + i) * gap;
      store(real + i, e);
      part += e;
      squares += e * gap;
    }
    total += sum(part);
    objective += sum(squares);
  }
  LossSums& sums = group_sum[static_cast<std::size_t>(frame.first_group + group)];
  sums.gradient = total;
  sums.objective = objective;
  transform_.forward_u(real, g.vu * FT_LANES, g.vu, g.vv, half, work);
  transform_.forward_v(half, g.vv, 0, g.half, product + group * g.bins * kComplex, kComplex, work);
}

}  // namespace FT_ISA
}  // namespace ft
