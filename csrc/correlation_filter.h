// correlation_filter: arguments of the CPU entries (see fasttrack/ops/correlation_filter.py for the formulas).
#pragma once

#include <cstdint>

namespace ft {

// Feature maps (T, S, C, H, W), columns contiguous; the window (H, W), where there is one, multiplies every map.
struct CfMaps {
  const float* features;
  int64_t targets, scales, channels, height, width;
  int64_t stride_target, stride_scale, stride_channel, stride_row;
  const float* window;
};

// Spectra are those of the map with its axes swapped: (W, H / 2 + 1), complex ones interleaved.
struct CfTrainArgs {
  CfMaps maps;         // one scale
  const float* label;  // (T, H, W), or one (H, W) with a stride of 0
  int64_t stride_label;
  bool gaussian;
  float lam, sigma;
  float* model;         // (M, C, W, H / 2 + 1) complex: numerator (linear) or spectra of the maps (Gaussian)
  float* coefficients;  // (M, W, H / 2 + 1): denominator (linear, real) or dual variables (Gaussian, complex)
  const int64_t* rows;  // T different places in the model; null for 0, 1, … (then M = T)
  float rate;           // share of what is learnt; the rest is what the model holds. With 1 it need not hold anything
};

struct CfDetectArgs {
  CfMaps maps;
  const float* model;
  const float* coefficients;
  bool gaussian;
  float sigma;
  float* response;  // (T, S, H, W)
};

// out = a + rate (b - a); out may be a.
struct CfUpdateArgs {
  const float* a;
  const float* b;
  float* out;
  int64_t count;
  float rate;
};

}  // namespace ft
