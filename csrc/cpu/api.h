// The entries of the CPU kernels: one row per kernel, one table per instruction set.
#pragma once

#include "regression_loss.h"

// clang-format off
#define FT_CPU_ENTRIES(X)                     \
  X(regression_loss, RegressionLossArgs)
// clang-format on

namespace ft {

struct CpuTable {
#define FT_MEMBER(name, Args) void (*name)(const Args&);
  FT_CPU_ENTRIES(FT_MEMBER)
#undef FT_MEMBER
};

}  // namespace ft
