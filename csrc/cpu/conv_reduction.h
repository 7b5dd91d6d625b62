// A trained linear reduction in front of the kernel. w * (A F) = (A'w) * F: neither the reduced map nor a gradient
// in it is computed. With u = A'w the composed kernel and G the gradient in it, dA = w G' and dw = A G.
#pragma once

#include "cpu/conv_tiles.h"

namespace ft {
namespace FT_ISA {

// All arrays are rows of FT_LANES neighbours. `reduced` is the geometry of w, `full` that of u.
struct Reduction {
  const Geometry& reduced;
  const Geometry& full;
  float* lanes = nullptr;  // A, (full.blocks, rows(), FT_LANES): lanes over the channels of the map
  float* mean = nullptr;   // Adam's moments of A, laid out alike
  float* square = nullptr;
  float* turned = nullptr;    // A', (reduced.blocks, full.blocks * FT_LANES, FT_LANES): lanes over those of w
  float* composed = nullptr;  // u, laid out as a weight
  float* gradient = nullptr;  // G, laid out as a weight, unscaled

  index rows() const { return reduced.blocks * FT_LANES; }
  index block_floats() const { return rows() * FT_LANES; }
  index floats() const { return full.blocks * block_floats(); }
  index slope_floats() const;  // scratch of one thread

  // Blocks of u, of dA, of dw: `weight` is w in lanes, `out` one thread's scratch.
  void compose(const float* weight, Share blocks) const;
  void slope(const float* weight, index block, index count, float* out) const;  // count <= kBlocksAtOnce of dA
  void weight_slope(index block, index count, float* out) const;                // and of dw
  void turn(Share blocks) const;                                                // lanes -> turned

  static constexpr index kBlocksAtOnce = 2;
};

// (D, C) <-> lanes; padding is zero.
void pack_reduction(const Reduction& r, const float* matrix, float* lanes);
void unpack_reduction(const Reduction& r, const float* lanes, float* matrix);

}  // namespace FT_ISA
}  // namespace ft
