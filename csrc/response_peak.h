// Arguments of response_peak: the peak of every map and how far it stands out.
#pragma once

#include <cstdint>

namespace ft {

struct ResponsePeakArgs {
  const float* maps;  // count × height × width, rows contiguous
  int64_t count, height, width;
  int64_t stride_map, stride_row;  // in floats
  float* out;                      // count × 4: row, column, score, psr
};

}  // namespace ft
