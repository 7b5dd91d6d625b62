// Whole optimisations over cached spectra: every step of Adam, gradient descent or conjugate gradient in one call.
//
// Each thread owns a share of the channel blocks, of the frequencies and of the groups of tiles; sums are
// kept per block and per group and added in one order, so the result does not depend on the thread count.
#include <memory>
#include <vector>

#include "conv_regression.h"
#include "cpu/conv_adam.h"
#include "cpu/conv_run.h"
#include "cpu/threads.h"

namespace ft {
namespace FT_ISA {
namespace {

// How Adam or gradient descent moves weight, reduction and bias by one step.
class Descent {
 public:
  explicit Descent(ConvRun& run)
      : run_(run),
        adaptive_(run.args.optimizer == ConvOptimizer::Adam),
        adam_{run.args.learning_rate},
        reduction_decay_(static_cast<float>(2.0 * run.args.reduction.weight_decay)),
        bias_(*run.args.bias) {
    if (run.args.bias_moments != nullptr)
      bias_mean_ = run.args.bias_moments[0], bias_square_ = run.args.bias_moments[1];
  }

  float bias() const { return bias_; }
  void keep_bias() const {
    *run_.args.bias = bias_;
    if (run_.args.bias_moments == nullptr) return;
    run_.args.bias_moments[0] = bias_mean_;
    run_.args.bias_moments[1] = bias_square_;
  }

  // The spectra of the kernel on the map, of this thread's blocks.
  void transform(int me, int all) const {
    const Share blocks = share(run_.base.blocks, me, all);
    if (run_.reduces) {
      run_.reduction.turn(blocks);
      if (run_.reduction.mixes()) {
        run_.reduction.mix(run_.weight, share(run_.kernel.blocks, me, all));
#pragma omp barrier
      }
      run_.reduction.compose(run_.weight, blocks, run_.slopes(me));
    }
    const float* lanes = run_.reduces ? run_.reduction.composed : run_.weight;
    for (index b = blocks.first; b < blocks.last; ++b) run_.weight_forward(lanes, b, me);
  }

  void sum_squares(int me, int all) const {
    const Share blocks = share(run_.weight_blocks(), me, all), wide = share(run_.base.blocks, me, all);
    for (index b = blocks.first; b < blocks.last; ++b) run_.sum_squares(b);
    for (index b = wide.first; run_.reduces && b < wide.last; ++b) run_.sum_reduction_squares(b);
  }

  // One update from the spectrum of the gradient; then, where `more`, the next spectra. `step` counts from 1.
  void update(int64_t step, float bias_gradient, bool more, int me, int all) {
    adam_.at(step);
    const Adam own = adam_.with(run_.args.bias_learning_rate);
    bias_ = adaptive_ ? own.update(bias_, bias_gradient, bias_mean_, bias_square_)
                      : bias_ - static_cast<float>(own.learning_rate) * bias_gradient;
    if (run_.reduces) {
      update_reduced(me, all);
      if (more) transform(me, all);
      return;
    }
    const Share blocks = share(run_.base.blocks, me, all);
    const index count = run_.base.kv * run_.base.ku * FT_LANES;
    const float decay = static_cast<float>(2.0 * run_.args.weight_decay);
    for (index b = blocks.first; b < blocks.last; ++b) {
      const index at = b * run_.block_floats;
      move(adam_, decay, run_.gradient_inverse(b, me), count, run_.weight + at, run_.mean + at, run_.square + at);
      if (run_.args.patience > 0) run_.sum_squares(b);
      if (more) run_.weight_forward(run_.weight, b, me);
    }
  }

 private:
  void move(const Adam& adam, float decay, const float* gradient, index count, float* w, float* mean,
            float* square) const {
    if (adaptive_) {
      adam.update_all(run_.scale, decay, gradient, count, w, mean, square);
    } else {
      const float rate = static_cast<float>(adam.learning_rate);
      for (index i = 0; i < count; ++i) w[i] -= rate * (gradient[i] * run_.scale + decay * w[i]);
    }
  }

  // The gradient in A needs the old weight, that in w the whole gradient and the old A (which `turned` keeps).
  void update_reduced(int me, int all) const {
    const Reduction& r = run_.reduction;
    const ConvFusion& fusion = run_.args.fusion;
    float* slopes = run_.slopes(me);
    const Share wide = share(run_.base.blocks, me, all), narrow = share(run_.kernel.blocks, me, all);
    index inverted = wide.first;
    r.each(wide, [&](const Stretch& at) {
      for (; inverted < at.block + at.count; ++inverted) {
        run_.gradient_inverse(inverted, r.gradient + inverted * run_.block_floats, me);
      }
      r.slope(run_.weight, at, slopes);
      const Adam adam = adam_.with(run_.args.reduction.learning_rate * fusion.map_rates[at.map]);
      const index first = at.block * r.block_floats();
      const index length = at.whole() ? at.count * r.block_floats() : at.last_lane - at.first_lane;
      for (index i = at.first_lane; i < r.block_floats(); i += at.whole() ? r.block_floats() : FT_LANES) {
        const index to = first + i;
        move(adam, reduction_decay_, slopes + i, length, r.lanes + to, r.mean + to, r.square + to);
      }
    });
#pragma omp barrier
    const index floats = run_.base.kv * run_.base.ku * FT_LANES, regressor = run_.kernel.blocks * run_.block_floats;
    for (index b = narrow.first; b < narrow.last; b += Reduction::kBlocksAtOnce) {
      const index count = std::min(Reduction::kBlocksAtOnce, narrow.last - b);
      const float* slope = r.weight_slopes(b, count, slopes);
      for (index k = 0; k < fusion.regressors; ++k, slope += Reduction::kBlocksAtOnce * run_.block_floats) {
        const Adam adam = adam_.with(run_.args.learning_rate * fusion.rates[k]);
        const float decay = static_cast<float>(2.0 * run_.args.weight_decay * fusion.decays[k]);
        for (index i = 0; i < count; ++i) {
          const index at = k * regressor + (b + i) * run_.block_floats;
          const float* own = slope + i * run_.block_floats;
          move(adam, decay, own, floats, run_.weight + at, run_.mean + at, run_.square + at);
        }
      }
    }
    if (run_.args.patience > 0) sum_squares(me, all);
#pragma omp barrier
  }

  ConvRun& run_;
  const bool adaptive_;
  Adam adam_;
  const float reduction_decay_;
  float bias_, bias_mean_ = 0, bias_square_ = 0;
};

void descend(ConvRun& run) {
  const ConvRunArgs& args = run.args;
#pragma omp parallel
  {
    const int me = thread(), all = threads();
    Descent descent(run);  // every thread steps the bias for itself
    Progress progress{args.patience};
    descent.transform(me, all);
    if (args.patience > 0) descent.sum_squares(me, all);
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
          run.tile_loss(frame, group, product, descent.bias(), !last, me);
#pragma omp barrier
        if (f + 1 == args.frame_count) {
          sums = run.total();
          stop = stop || (args.tolerance >= 0 && sums.loss < args.tolerance);
          if (!stop && progress.ended(step, sums.loss + run.penalty())) {
            stop = true;
            if (me == 0) args.counts[2] = 1;
          }
        }
        if (!stop)
          accumulate(frame.g, frame.spectra, product, run.gradient_spectra, f > 0, share(frame.g.bins, me, all));
      }
      if (me == 0) run.record(step, sums);
      if (me == 0) args.counts[0] = stop ? step : step + 1;
      if (stop) break;
#pragma omp barrier
      const bool more = step + 1 < args.steps || args.evaluate;
      descent.update(args.steps_before + step + 1, static_cast<float>(sums.gradient), more, me, all);
    }
    if (me == 0) descent.keep_bias();
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
    Progress progress{args.patience};
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
      if (progress.ended(step, run.total().objective + run.penalty())) {
        if (me == 0) args.counts[0] = step, args.counts[2] = 1;
        break;
      }
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

void optimise(ConvRun& run) {
  run.prepare();
  for (int i = 0; i < 3; ++i) run.args.counts[i] = 0;
  if (run.args.optimizer == ConvOptimizer::ConjugateGradient) {
    conjugate_gradient(run);
  } else {
    descend(run);
  }
  run.finish();
}

}  // namespace

void conv_runs(const ConvRunsArgs& args) {
  std::vector<std::unique_ptr<ConvRun>> runs;  // made here: what may throw must not do so in a parallel region
  bool sizes_only = false;
  for (int64_t i = 0; i < args.count; ++i) {
    runs.push_back(std::make_unique<ConvRun>(args.runs[i]));
    *args.runs[i].workspace_floats = runs.back()->workspace_floats;
    sizes_only = sizes_only || args.runs[i].workspace == nullptr;
  }
  if (sizes_only) return;
  if (args.count > 1 && args.count >= max_threads()) {  // the regions inside then have one thread each
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < args.count; ++i) optimise(*runs[static_cast<std::size_t>(i)]);
  } else {
    for (auto& run : runs) optimise(*run);
  }
}

}  // namespace FT_ISA
}  // namespace ft
