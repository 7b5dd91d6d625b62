// A trained linear reduction in front of the kernel. w * (A F) = (A'w) * F: neither the reduced map nor a gradient
// in it is computed. With u = A'w the composed kernel and G the gradient in it, dA = w G' and dw = A G. Where the
// channels are those of several maps and there are several regressors, map i meets A_i'v_i in the place of A'w, with
// v_i = sum over r of mixing[i][r] w_r; then dA_i = v_i G_i' and dw_r = sum over i of mixing[i][r] A_i G_i.
#pragma once

#include <algorithm>

#include "conv_regression.h"
#include "cpu/conv_tiles.h"

namespace ft {
namespace FT_ISA {

// What one product covers: `count` blocks of the channels of one map, or those lanes of one block that are its.
struct Stretch {
  index block, count, map, first_lane, last_lane;
  bool whole() const { return last_lane - first_lane == FT_LANES; }
};

// All arrays are rows of FT_LANES neighbours. `reduced` is the geometry of a regressor, `full` that of u.
struct Reduction {
  const Geometry& reduced;
  const Geometry& full;
  const ConvFusion& fusion;
  float* lanes = nullptr;  // A, (full.blocks, rows(), FT_LANES): lanes over the channels of the map
  float* mean = nullptr;   // Adam's moments of A, laid out alike
  float* square = nullptr;
  float* turned = nullptr;    // A', (reduced.blocks, full.blocks * FT_LANES, FT_LANES): lanes over those of w
  float* mixed = nullptr;     // v, per map, laid out as a regressor
  float* composed = nullptr;  // u, laid out as a weight
  float* gradient = nullptr;  // G, laid out as a weight, unscaled

  index rows() const { return reduced.blocks * FT_LANES; }
  index block_floats() const { return rows() * FT_LANES; }
  index floats() const { return full.blocks * block_floats(); }
  index cell_floats() const { return even(full.kv) * full.ku * FT_LANES; }  // of a block of u or w
  index slope_floats() const;                                               // scratch of one thread
  bool mixes() const { return fusion.maps > 1 || fusion.regressors > 1 || fusion.mixing[0] != 1; }
  const float* of_map(const float* weight, index map) const;

  // Blocks of v, of u, of dA, of dw: `weight` is all w in lanes, `out` and `slopes` one thread's scratch.
  void mix(const float* weight, Share blocks) const;
  void compose(const float* weight, Share blocks, float* out) const;
  void slope(const float* weight, const Stretch& at, float* out) const;
  const float* weight_slopes(index block, index count, float* slopes) const;  // (regressors, count) blocks of dw
  void turn(Share blocks) const;                                              // lanes -> turned

  // The stretches of `blocks`, at most kBlocksAtOnce each.
  template <class Do>
  void each(Share blocks, Do visit) const;

  static constexpr index kBlocksAtOnce = 2;

 private:
  index first_channel(index map) const;
  void map_slope(index map, index block, index count, float* out) const;
};

template <class Do>
void Reduction::each(Share blocks, Do visit) const {
  for (index b = blocks.first; b < blocks.last;) {
    index first = 0, taken = 1;
    for (index map = 0; map < fusion.maps; ++map) {
      const index end = map + 1 == fusion.maps ? full.blocks * FT_LANES : first + fusion.channels[map];
      const index from = std::max(first, b * FT_LANES), to = std::min(end, (b + 1) * FT_LANES);
      first = end;
      if (from >= to) continue;
      const bool whole = to - from == FT_LANES;
      if (whole) taken = std::min({kBlocksAtOnce, blocks.last - b, end / FT_LANES - b});
      visit(Stretch{b, taken, map, from - b * FT_LANES, to - b * FT_LANES});
    }
    b += taken;
  }
}

// (D, C) <-> lanes; padding is zero.
void pack_reduction(const Reduction& r, const float* matrix, float* lanes);
void unpack_reduction(const Reduction& r, const float* lanes, float* matrix);

}  // namespace FT_ISA
}  // namespace ft
