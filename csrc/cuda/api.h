// The CUDA kernels: one row per kernel, `ft_<name>` taking its arguments as one plain struct by value.
#pragma once

#include "regression_loss.h"

// clang-format off
#define FT_CUDA_KERNELS(X)                                 \
  X(regression_loss, ft::RegressionLossCudaArgs)           \
  X(regression_loss_sum, ft::RegressionLossSumArgs)
// clang-format on

#if defined(__CUDACC__) || defined(FT_CUDA_EMULATION)
#define FT_DECLARE(name, Args) extern "C" __global__ void ft_##name(const Args);
FT_CUDA_KERNELS(FT_DECLARE)
#undef FT_DECLARE
#endif
