// The entries of the CPU kernels: one row per kernel, one table per instruction set.
#pragma once

#include "crop_resize.h"
#include "hog.h"
#include "regression_loss.h"
#include "response_peak.h"

// clang-format off
#define FT_CPU_ENTRIES(X)                     \
  X(crop_resize, CropResizeArgs)              \
  X(hog, HogArgs)                             \
  X(regression_loss, RegressionLossArgs)      \
  X(response_peak, ResponsePeakArgs)
// clang-format on

namespace ft {

struct CpuTable {
#define FT_MEMBER(name, Args) void (*name)(const Args&);
  FT_CPU_ENTRIES(FT_MEMBER)
#undef FT_MEMBER
};

}  // namespace ft
