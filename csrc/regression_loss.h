// Losses of a regression p → y per position, with their gradient in p (shared by CPU and CUDA).
//
//   truncated   (exp(a·y)·T(e))²,  T(e) = e if |e| > th else 0        (CRT eq. 3–5)
//   shrinkage   exp(y)·e² / (1 + exp(a·(c − l))),  l = |e| (DCFST eq. 4) or e (DSLT eq. 7)
//   focal       |e|³
//   square      e²
//
// with e = p − y. Truth at the kinks: |e| = th counts as truncated (value and gradient 0), and at
// e = 0 every loss has value and gradient 0.
#pragma once

#include "maths.h"

namespace ft {

enum class Loss : int { Truncated = 0, ShrinkageModified = 1, ShrinkageOriginal = 2, Focal = 3, Square = 4 };

// What is constant over positions. For the truncated loss: a = exponent weight, c = threshold.
struct LossParams {
  Loss form;
  float a;
  float c;
};

struct ValueGrad {
  float value;
  float grad;
};

FT_HD ValueGrad shrinkage_from(float e, float l, float slope, float weight, float a, float c) {
  // s = 1/(1 + t), t = exp(a(c − l)), 1 − s = t·s (fast_exp saturates, so t is finite);
  // d/dp [e²·s] = 2e·s + e²·a·slope·s(1 − s), slope = dl/de
  const float t = fast_exp(a * (c - l));
  const float s = 1.0f / (1.0f + t);
  const float base = weight * e * s;
  return {base * e, base * (2.0f + a * slope * e * (t * s))};
}

FT_HD ValueGrad regression_loss_at(const LossParams& k, float p, float y) {
  const float e = p - y;
  const float size = e < 0 ? -e : e;
  const float sign = e < 0 ? -1.0f : 1.0f;
  switch (k.form) {
    case Loss::Truncated: {
      // `!(size <= c)` keeps a NaN error instead of hiding it as "easy".
      const float kept = !(size <= k.c) ? e : 0.0f;
      const float weight = fast_exp(2.0f * k.a * y);
      return {weight * kept * kept, 2.0f * weight * kept};
    }
    case Loss::ShrinkageModified:
      return shrinkage_from(e, size, sign, fast_exp(y), k.a, k.c);
    case Loss::ShrinkageOriginal:
      return shrinkage_from(e, e, 1.0f, fast_exp(y), k.a, k.c);
    case Loss::Focal:
      return {size * e * e, 3.0f * size * e};
    case Loss::Square:
      break;
  }
  return {e * e, 2.0f * e};
}

struct RegressionLossArgs {
  const float* prediction;  // n values
  const float* target;      // n values
  const float* weight;      // n values or null (all ones)
  float* value;             // n values when `reduced` is false, else one: the sum times `scale`
  float* grad;              // n values: d value / d prediction, times `scale`
  int64_t n;
  LossParams params;
  float scale;
  bool reduced;
};

// On the GPU: the sum of each block, then their sum.
struct RegressionLossCudaArgs {
  RegressionLossArgs loss;  // its `value` is not written when `reduced`
  double* partial;          // one per block, written when `reduced`
};

struct RegressionLossSumArgs {
  const double* partial;
  float* value;  // one
  int64_t blocks;
};

}  // namespace ft
