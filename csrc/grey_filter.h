// Arguments of grey_filter: what a correlation filter on brightness does with windows of a frame.
#pragma once

#include "correlation_filter.h"
#include "crop_resize.h"

namespace ft {

// Patches and features lie in memory of the kernel: `crop.out` and `maps.features` are not read.
struct GreyDetectArgs {
  CropResizeArgs crop;  // T · S windows
  int64_t cell;         // px
  CfDetectArgs filter;
  float* table;  // (T · S) × 4: row, column, score, psr of each response
};

struct GreyLearnArgs {
  CropResizeArgs crop;  // T windows
  int64_t cell;         // px
  CfTrainArgs filter;
};

}  // namespace ft
