// The state of one optimisation and the pieces an iteration is made of; conv_regression_run.cpp puts them together.
#pragma once

#include <vector>

#include "conv_regression.h"
#include "cpu/conv_reduction.h"
#include "cpu/conv_tiles.h"

namespace ft {
namespace FT_ISA {

struct Frame {
  Geometry g;
  const float* spectra;
  // Lanes over tiles, (groups, even(vv), vu, FT_LANES); `weight` is 0 where a tile hangs over the map.
  float* target;
  float* weight;      // the loss's factor per position: exp(2ay), exp(y) or 1
  float* response;    // conjugate gradient only: carried along
  float* direction;   // conjugate gradient only: the response of the search direction
  index first_group;  // of all frames' groups
};

struct LossSums {
  double loss = 0, gradient = 0, curvature = 0, total = 0;
  double objective = 0;  // conjugate gradient only: the squares it minimises
  float peak = -__builtin_inff();
};

// Sums over one block of channels: squares of the weight and of the reduction; inner products of conjugate
// gradient, r.r, r.(r - r before), r.d, d.d.
struct BlockSums {
  double weight_square = 0, reduction_square = 0;
  double residual_square = 0, residual_change = 0, slope = 0, direction_square = 0;
};

// Whether an objective still falls: by a thousandth within `patience` steps.
struct Progress {
  int64_t patience, since = 0;
  double mark = __builtin_inf();

  bool ended(int64_t step, double objective) {
    if (objective < 0.999 * mark) mark = objective, since = step;
    return patience > 0 && step - since >= patience;
  }
};

class ConvRun {
 public:
  explicit ConvRun(const ConvRunArgs& args);
  ConvRun(const ConvRun&) = delete;  // `reduction` refers to its neighbours
  void prepare();                    // fills the workspace from weight, reduction and targets
  void finish() const;               // leaves weight, reduction and moments with the caller
  index weight_blocks() const { return args.fusion.regressors * kernel.blocks; }

  void weight_forward(const float* lanes, index block, int thread);
  const float* gradient_inverse(index block, int thread);  // unscaled, block_floats values
  void gradient_inverse(index block, float* gradient, int thread);
  float* slopes(int thread) const { return scratch(thread) + slopes_; }  // reduction.slope_floats() values

  // Adam and gradient descent: response -> loss -> spectrum of its gradient, in place of the product.
  void tile_loss(const Frame& frame, index group, float* product, float bias, bool want_error, int thread);
  // Conjugate gradient: response of the direction; step along it and loss; spectrum of the weighted residual.
  void tile_direction(const Frame& frame, index group, float* product, float bias, int thread);
  void tile_advance(const Frame& frame, index group, bool first, float along, int thread);
  void tile_residual(const Frame& frame, index group, float* product, int thread);

  // Conjugate gradient on one block of the weight: w += along d; r = scale G - decay w; d = r + keep d.
  void block_advance(index block, float along);
  void block_residual(index block, float decay, int thread);
  void block_direction(index block, float keep);
  void sum_squares(index block);            // of the weight
  void sum_reduction_squares(index block);  // of the reduction

  LossSums total() const;
  BlockSums block_total() const;
  double penalty() const;  // weight decay of the weight and of the reduction
  void record(int64_t step, const LossSums& sums) const;

  const ConvRunArgs& args;
  const bool reduces;
  Geometry base;    // of the first frame: what concerns the kernel on the map holds for all
  Geometry kernel;  // of one regressor: `base` with the channels that a reduction leaves
  Reduction reduction;
  std::vector<Frame> frames;
  std::vector<LossSums> group_sum;
  std::vector<BlockSums> block_sum;
  index block_floats, workspace_floats;
  float scale;
  float* weight;  // per regressor (blocks, even(kv), ku, FT_LANES), like the next two
  float* mean;    // Adam's first moment; conjugate gradient's direction
  float* square;  // Adam's second moment; conjugate gradient's residual
  float* weight_spectra;
  float* gradient_spectra;
  float* product[2];

 private:
  float* scratch(int thread) const { return scratch_ + thread * own_; }
  float* take(index floats);
  void pack(const float* weight, float* lanes) const;  // all regressors
  void unpack(const float* lanes, float* weight) const;
  void measure(const Frame& frame, index group, const float* response, float* gradient, LossSums& sums) const;

  TileTransform transform_;
  index half_, real_, own_, slopes_;
  float* scratch_;
  float* weight_map_;
  index map_floats_ = 0, positions_ = 0;
};

}  // namespace FT_ISA
}  // namespace ft
