// The entries of the CPU kernels: one row per kernel, one table per instruction set.
#pragma once

#include "color_names.h"
#include "conv_regression.h"
#include "correlation_filter.h"
#include "crop_resize.h"
#include "grey.h"
#include "grey_filter.h"
#include "hog.h"
#include "lrn.h"
#include "pca.h"
#include "prroi_pool.h"
#include "regression_loss.h"
#include "response_peak.h"
#include "ridge_solve.h"

// clang-format off
#define FT_CPU_ENTRIES(X)                                    \
  X(cf_detect, CfDetectArgs)                                 \
  X(cf_train, CfTrainArgs)                                   \
  X(cf_update, CfUpdateArgs)                                 \
  X(color_names, ColorNamesArgs)                             \
  X(conv_plan, ConvPlanArgs)                                 \
  X(conv_spectra_size, ConvSpectraSizeArgs)                  \
  X(conv_spectra, ConvSpectraArgs)                           \
  X(conv_direct, ConvDirectArgs)                             \
  X(conv_response, ConvResponseArgs)                         \
  X(conv_weight_gradient, ConvWeightGradientArgs)            \
  X(conv_features_gradient, ConvFeaturesGradientArgs)        \
  X(conv_runs, ConvRunsArgs)                                 \
  X(crop_resize, CropResizeArgs)                             \
  X(grey, GreyArgs)                                          \
  X(grey_detect, GreyDetectArgs)                             \
  X(grey_learn, GreyLearnArgs)                               \
  X(hog, HogArgs)                                            \
  X(lrn, LrnArgs)                                            \
  X(pca_product, PcaProductArgs)                             \
  X(prroi_pool, PrroiPoolArgs)                               \
  X(prroi_features_gradient, PrroiFeaturesGradientArgs)      \
  X(prroi_rois_gradient, PrroiRoisGradientArgs)              \
  X(prroi_bin_sum, PrroiBinSumArgs)                          \
  X(prroi_bin_sum_maps_gradient, PrroiBinSumMapsGradientArgs)\
  X(prroi_bin_sum_rois_gradient, PrroiBinSumRoisGradientArgs)\
  X(regression_loss, RegressionLossArgs)                     \
  X(response_peak, ResponsePeakArgs)                         \
  X(ridge_adjoint, RidgeAdjointArgs)                         \
  X(ridge_solve, RidgeSolveArgs)
// clang-format on

namespace ft {

struct CpuTable {
#define FT_MEMBER(name, Args) void (*name)(const Args&);
  FT_CPU_ENTRIES(FT_MEMBER)
#undef FT_MEMBER
};

}  // namespace ft
