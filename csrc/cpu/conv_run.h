// The state of one optimisation and the pieces an iteration is made of; conv_regression_run.cpp puts them together.
#pragma once

#include <vector>

#include "conv_regression.h"
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
  float peak = -__builtin_inff();
};

// Inner products of conjugate gradient over one block of channels: r.r, r.(r - r before), r.d, d.d.
struct BlockSums {
  double residual_square = 0, residual_change = 0, slope = 0, direction_square = 0;
};

class ConvRun {
 public:
  explicit ConvRun(const ConvRunArgs& args);
  void prepare();  // fills the workspace from weight and targets

  void weight_forward(const float* lanes, index block, int thread);
  const float* gradient_inverse(index block, int thread);  // unscaled, block_floats values

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

  LossSums total() const;
  BlockSums block_total() const;
  void record(int64_t step, const LossSums& sums) const;

  const ConvRunArgs& args;
  Geometry base;  // of the first frame: what concerns the weight holds for all
  std::vector<Frame> frames;
  std::vector<LossSums> group_sum;
  std::vector<BlockSums> block_sum;
  index block_floats, workspace_floats;
  float scale;
  float* weight;  // (blocks, even(kv), ku, FT_LANES), like the next two
  float* mean;    // Adam's first moment; conjugate gradient's direction
  float* square;  // Adam's second moment; conjugate gradient's residual
  float* weight_spectra;
  float* gradient_spectra;
  float* product[2];

 private:
  float* scratch(int thread) const { return scratch_ + thread * own_; }
  float* take(index floats);
  void measure(const Frame& frame, index group, const float* response, float* gradient, LossSums& sums) const;

  TileTransform transform_;
  index half_, real_, own_;
  float* gradient_;  // per thread, inside scratch
  float* scratch_;
  float* weight_map_;
  index map_floats_ = 0, positions_ = 0;
};

}  // namespace FT_ISA
}  // namespace ft
