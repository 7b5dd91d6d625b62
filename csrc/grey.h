// Arguments of grey: log brightness of the cells of patches, each patch brought to mean 0 and deviation 1.
#pragma once

#include <cstdint>

namespace ft {

struct GreyArgs {
  const float* patches;  // count × channels × height × width, rows contiguous
  int64_t count, channels, height, width;
  int64_t stride_patch, stride_channel, stride_row;  // in floats
  int64_t cell;                                      // px
  float* out;                                        // count × ⌊height / cell⌋ × ⌊width / cell⌋, written whole
};

}  // namespace ft
