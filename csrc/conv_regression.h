// conv_regression: arguments of the CPU entries (see fasttrack/ops/conv_regression.py for the formulas).
#pragma once

#include "regression_loss.h"

namespace ft {

// One feature map, one kernel size, one tile size: everything about layout follows from these.
struct ConvShape {
  int64_t channels, height, width;
  int64_t kernel_h, kernel_w;
  int64_t tile_h, tile_w;
};

// The tile for a shape (its tile_h, tile_w are ignored) when `frames` maps share one weight.
struct ConvPlanArgs {
  ConvShape shape;
  int64_t frames;
  int64_t* tile;  // out: tile_h, tile_w
};

// Size of the spectra of one map.
struct ConvSpectraSizeArgs {
  ConvShape shape;
  int64_t* floats;  // out
};

struct ConvSpectraArgs {
  ConvShape shape;
  const float* features;  // (C, H, W)
  float* spectra;         // 64-byte aligned
};

struct ConvResponseArgs {
  ConvShape shape;
  const float* spectra;
  const float* weight;  // (C, kh, kw)
  const float* bias;    // (1,) or null
  float* response;      // (H - kh + 1, W - kw + 1)
};

// The same response without spectra, for small kernels.
struct ConvDirectArgs {
  ConvShape shape;        // its tile is ignored
  const float* features;  // (C, H, W)
  const float* weight;    // (C, kh, kw)
  const float* bias;      // (1,) or null
  float* response;        // (H - kh + 1, W - kw + 1)
};

struct ConvWeightGradientArgs {
  ConvShape shape;
  const float* spectra;
  const float* response_gradient;  // (H - kh + 1, W - kw + 1)
  float* weight_gradient;          // (C, kh, kw)
};

struct ConvFeaturesGradientArgs {
  ConvShape shape;
  const float* response_gradient;  // (H - kh + 1, W - kw + 1)
  const float* weight;             // (C, kh, kw)
  float* features_gradient;        // (C, H, W)
};

enum class ConvOptimizer : int { Adam = 0, ConjugateGradient = 1, GradientDescent = 2 };

struct ConvFrame {
  const float* spectra;
  const float* target;  // (H - kh + 1, W - kw + 1)
  int64_t height, width;
};

// A reduction A (reduced, channels) trained with the weight: the kernel on the map is A'w. Null `matrix`: none.
struct ConvReduction {
  int64_t reduced;  // channels of the weight
  float* matrix;    // (reduced, channels), updated in place
  float* moments;   // (2, reduced, channels), as those of the weight
  double learning_rate;
  double weight_decay;
};

// The channels of the map are those of `maps` maps; regressor r reads the sum of their reductions, map i with the
// share mixing[i][r]. Each has its own rate. Without a reduction there is one map and one regressor.
struct ConvFusion {
  int64_t maps, regressors;
  const int64_t* channels;  // (maps)
  const double* mixing;     // (maps, regressors)
  const double* rates;      // (regressors), factors of the weight's learning rate
  const double* map_rates;  // (maps), factors of the reduction's
  const double* decays;     // (regressors), factors of the weight decay
};

// A whole optimisation of sum(loss) + weight_decay * |w|^2; weight, bias and reduction are updated in place.
struct ConvRunArgs {
  int64_t channels, kernel_h, kernel_w, tile_h, tile_w;
  const ConvFrame* frames;
  int64_t frame_count;
  LossParams loss;
  double weight_decay;
  ConvOptimizer optimizer;
  double learning_rate, bias_learning_rate;
  int64_t steps;
  double tolerance;  // stop when the data loss falls below it; negative: never
  int64_t patience;  // stop when the objective has not fallen by a thousandth for so many steps; 0: never
  bool evaluate;     // measure loss and SNR of the final weight (half an iteration more)
  float* weight;     // (regressors, C, kh, kw), C = channels or, with a reduction, `reduced`
  float* bias;       // (1,)
  ConvReduction reduction;
  ConvFusion fusion;
  // Adam's state, read and left as the run ends: both moments of weight and bias, and the steps they have seen.
  float* moments;       // (2, regressors, C, kh, kw) first and second moment, or null: start at zero, leave nothing
  float* bias_moments;  // (2,), null with `moments`
  int64_t steps_before;
  double* history;   // out: (steps + 1, 2) of loss and SNR, the iterates in order
  int64_t* counts;   // out: steps taken, rows of history written, 1 if `patience` ran out
  float* workspace;  // `*workspace_floats` floats, 64-byte aligned; null: only ask for the size
  int64_t* workspace_floats;
};

// Optimisations that share nothing; as many as there are threads, or more, run side by side.
struct ConvRunsArgs {
  const ConvRunArgs* runs;
  int64_t count;
};

}  // namespace ft
