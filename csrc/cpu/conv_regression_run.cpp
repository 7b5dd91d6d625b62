// Whole optimisations over cached spectra: every step of Adam, gradient descent or conjugate gradient in one call.
//
// Each thread owns a share of the channel blocks, of the frequencies and of the groups of tiles; sums are
// kept per block and per group and added in one order, so the result does not depend on the thread count.
#include <cmath>

#include "conv_regression.h"
#include "cpu/conv_run.h"
#include "cpu/threads.h"

namespace ft {
namespace FT_ISA {
namespace {

// torch.optim.Adam's update of one column of weights (betas 0.9 and 0.999, eps 1e-8), in its order of operations.
struct Adam {
  double learning_rate;
  float step_size = 0, root_correction = 1;

  void at(int64_t step) {  // step counts from 1
    const double first = 1.0 - std::pow(0.9, static_cast<double>(step));
    const double second = 1.0 - std::pow(0.999, static_cast<double>(step));
    step_size = static_cast<float>(learning_rate / first);
    root_correction = static_cast<float>(std::sqrt(second));
  }
  void update_all(float scale, float decay, const float* __restrict gradient, index count, float* __restrict weight,
                  float* __restrict mean, float* __restrict square) const {
    for (index i = 0; i < count; ++i) {
      weight[i] = update(weight[i], gradient[i] * scale + decay * weight[i], mean[i], square[i]);
    }
  }
  FT_INLINE float update(float weight, float gradient, float& mean, float& square) const {
    mean += (gradient - mean) * static_cast<float>(1.0 - 0.9);
    square = square * 0.999f + gradient * gradient * static_cast<float>(1.0 - 0.999);
    return weight - step_size * mean / (__builtin_sqrtf(square) / root_correction + 1e-8f);
  }
};

void descend(ConvRun& run) {
  const ConvRunArgs& args = run.args;
  Adam adam{args.learning_rate};
  const bool moments = args.optimizer == ConvOptimizer::Adam;
  const float decay = static_cast<float>(2.0 * args.weight_decay), rate = static_cast<float>(args.learning_rate);
  float bias = *args.bias, bias_mean = 0, bias_square = 0;
  if (args.bias_moments != nullptr) bias_mean = args.bias_moments[0], bias_square = args.bias_moments[1];
#pragma omp parallel firstprivate(adam, bias, bias_mean, bias_square)
  {
    const int me = thread(), all = threads();
    const Share blocks = share(run.base.blocks, me, all);
    for (index b = blocks.first; b < blocks.last; ++b) run.weight_forward(run.weight, b, me);
    for (int64_t step = 0;; ++step) {
      const bool last = step == args.steps;
      if (last && !args.evaluate) break;
#pragma omp barrier
      bool stop = last;
      LossSums sums;
      for (index f = 0; f < args.frame_count; ++f) {
        const Frame& frame = run.frames[f];
        float* product = run.product[f % 2];
        correlate(frame.g, frame.spectra, run.weight_spectra, product, share(frame.g.bins, me, all));
#pragma omp barrier
        for (index group = me; group < frame.g.groups; group += all)
          run.tile_loss(frame, group, product, bias, !last, me);
#pragma omp barrier
        if (f + 1 == args.frame_count) {
          sums = run.total();
          stop = stop || (args.tolerance >= 0 && sums.loss < args.tolerance);
        }
        if (!stop)
          accumulate(frame.g, frame.spectra, product, run.gradient_spectra, f > 0, share(frame.g.bins, me, all));
      }
      if (me == 0) run.record(step, sums);
      if (stop) {
        if (me == 0) args.counts[0] = step;
        break;
      }
      adam.at(args.steps_before + step + 1);
      const float bias_gradient = static_cast<float>(sums.gradient);
      bias = moments ? adam.update(bias, bias_gradient, bias_mean, bias_square) : bias - rate * bias_gradient;
#pragma omp barrier
      for (index b = blocks.first; b < blocks.last; ++b) {
        const index at = b * run.block_floats;
        const float* gradient = run.gradient_inverse(b, me);
        const index count = run.base.kv * run.base.ku * FT_LANES;
        float* w = run.weight + at;
        if (moments) {
          adam.update_all(run.scale, decay, gradient, count, w, run.mean + at, run.square + at);
        } else {
          for (index i = 0; i < count; ++i) w[i] -= rate * (gradient[i] * run.scale + decay * w[i]);
        }
        if (step + 1 < args.steps || args.evaluate) run.weight_forward(run.weight, b, me);
      }
      if (me == 0) args.counts[0] = step + 1;
    }
    if (me == 0) {
      *args.bias = bias;
      if (args.bias_moments != nullptr) args.bias_moments[0] = bias_mean, args.bias_moments[1] = bias_square;
    }
  }
}

// Conjugate gradient on sum(W(y)^2 (R - y)^2) + weight_decay * |w|^2 in (w, bias): the residual is taken
// afresh from the response each step (one forward and one adjoint), the response itself is carried along.
void conjugate_gradient(ConvRun& run) {
  const ConvRunArgs& args = run.args;
  const float decay = static_cast<float>(args.weight_decay);
  float bias = *args.bias;
#pragma omp parallel firstprivate(bias)
  {
    const int me = thread(), all = threads();
    const Share blocks = share(run.base.blocks, me, all);
    for (index b = blocks.first; b < blocks.last; ++b) run.weight_forward(run.weight, b, me);
    float along = 1, direction_bias = bias;  // the first "direction" is the start itself, from a response of zero
    double residual_square = 0, bias_residual = 0;
    for (int64_t step = 0;; ++step) {
#pragma omp barrier
      for (index f = 0; f < args.frame_count; ++f) {
        const Frame& frame = run.frames[f];
        correlate(frame.g, frame.spectra, run.weight_spectra, run.product[f % 2], share(frame.g.bins, me, all));
#pragma omp barrier
        for (index group = me; group < frame.g.groups; group += all) {
          run.tile_direction(frame, group, run.product[f % 2], direction_bias, me);
        }
      }
#pragma omp barrier
      if (step > 0) {
        const BlockSums sums = run.block_total();
        const double curvature = run.total().curvature + args.weight_decay * sums.direction_square;
        const double slope = sums.slope + bias_residual * direction_bias;
        along = curvature > 0 ? static_cast<float>(slope / curvature) : 0.0f;
        bias += along * direction_bias;
      }
#pragma omp barrier
      for (index f = 0; f < args.frame_count; ++f) {
        for (index group = me; group < run.frames[f].g.groups; group += all) {
          run.tile_advance(run.frames[f], group, step == 0, along, me);
        }
      }
      if (step > 0) {
        for (index b = blocks.first; b < blocks.last; ++b) run.block_advance(b, along);
      }
#pragma omp barrier
      const LossSums sums = run.total();
      if (me == 0) run.record(step, sums);
      if (step == args.steps || along == 0.0f || (args.tolerance >= 0 && sums.loss < args.tolerance)) {
        if (me == 0) args.counts[0] = step;
        break;
      }
      for (index f = 0; f < args.frame_count; ++f) {
        const Frame& frame = run.frames[f];
        for (index group = me; group < frame.g.groups; group += all)
          run.tile_residual(frame, group, run.product[f % 2], me);
#pragma omp barrier
        accumulate(frame.g, frame.spectra, run.product[f % 2], run.gradient_spectra, f > 0,
                   share(frame.g.bins, me, all));
      }
#pragma omp barrier
      const double bias_before = bias_residual;
      bias_residual = run.total().gradient;
      for (index b = blocks.first; b < blocks.last; ++b) run.block_residual(b, decay, me);
#pragma omp barrier
      const BlockSums blocks_sum = run.block_total();
      // Polak-Ribiere, never negative: at the rounding floor it restarts by itself.
      const double turn = blocks_sum.residual_change + bias_residual * (bias_residual - bias_before);
      const float keep = step > 0 && turn > 0 ? static_cast<float>(turn / residual_square) : 0.0f;
      residual_square = blocks_sum.residual_square + bias_residual * bias_residual;
      direction_bias = static_cast<float>(bias_residual) + (step > 0 ? keep * direction_bias : 0.0f);
#pragma omp barrier
      for (index b = blocks.first; b < blocks.last; ++b) {
        run.block_direction(b, keep);
        run.weight_forward(run.mean, b, me);
      }
    }
    if (me == 0) *args.bias = bias;
  }
}

}  // namespace

void conv_run(const ConvRunArgs& args) {
  ConvRun run(args);
  if (args.workspace == nullptr) {
    *args.workspace_floats = run.workspace_floats;
    return;
  }
  run.prepare();
  args.counts[0] = args.counts[1] = 0;
  if (args.optimizer == ConvOptimizer::ConjugateGradient) {
    conjugate_gradient(run);
  } else {
    descend(run);
  }
  unpack_weight(run.base, run.weight, args.weight, 1.0f);
  if (args.moments != nullptr) {
    unpack_weight(run.base, run.mean, args.moments, 1.0f);
    unpack_weight(run.base, run.square, args.moments + args.channels * args.kernel_h * args.kernel_w, 1.0f);
  }
}

}  // namespace FT_ISA
}  // namespace ft
