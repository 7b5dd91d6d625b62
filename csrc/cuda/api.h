// The CUDA kernels: one row per kernel, `ft_<name>` taking its arguments as one plain struct by value.
#pragma once

#include "cuda/conv_regression.h"
#include "cuda/prroi_args.h"
#include "regression_loss.h"

// clang-format off
#define FT_CUDA_KERNELS(X)                                 \
  X(conv_regression_run, ft::ConvRunCudaArgs)              \
  X(prroi_pool, ft::PrroiPoolCudaArgs)                     \
  X(prroi_pool_features_gradient, ft::PrroiFeaturesGradientCudaArgs) \
  X(prroi_pool_rois_gradient, ft::PrroiRoisGradientCudaArgs) \
  X(regression_loss, ft::RegressionLossCudaArgs)           \
  X(regression_loss_sum, ft::RegressionLossSumArgs)
// clang-format on

#if defined(__CUDACC__) || defined(FT_CUDA_EMULATION)
#define FT_DECLARE(name, Args) extern "C" __global__ void ft_##name(const __grid_constant__ Args);
FT_CUDA_KERNELS(FT_DECLARE)
#undef FT_DECLARE
#endif
