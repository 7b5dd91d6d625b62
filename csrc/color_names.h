// Arguments of color_names: mean of a colour table's rows over the pixels of each cell.
#pragma once

#include <cstdint>

namespace ft {

struct ColorNamesArgs {
  const float* patches;  // count × 3 × height × width, rows contiguous
  int64_t count, height, width;
  int64_t stride_patch, stride_channel, stride_row;  // in floats
  int64_t cell;                                      // px
  const float* table;                                // 32768 × terms: row r + 32·g + 1024·b of bins of 8 levels
  int64_t terms;
  float* out;  // count × terms × ⌊height / cell⌋ × ⌊width / cell⌋, written whole
};

}  // namespace ft
