// Arguments of hog: 31-channel histograms of oriented gradients of patches.
#pragma once

#include <cstdint>

namespace ft {

struct HogArgs {
  const float* patches;  // count × channels × height × width, rows contiguous
  int64_t count, channels, height, width;
  int64_t stride_patch, stride_channel, stride_row;  // in floats
  int64_t cell;                                      // px
  float* out;                                        // count × 31 × ⌊height / cell⌋ × ⌊width / cell⌋, written whole
};

}  // namespace ft
