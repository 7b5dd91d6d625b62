// Ridge regression by one Cholesky factor of the smaller Gram matrix.
//
//   w = (XᵀX + λI)⁻¹ Xᵀy = Xᵀ (XXᵀ + λI)⁻¹ y        (Woodbury; DCFST eq. 2–3)
//
// With k = min(n, d) the factor L is that of XXᵀ + λI (d > n: the dual) or XᵀX + λI (else: the primal).
#pragma once

#include <cstdint>

namespace ft {

struct RidgeSolveArgs {
  const float* X;     // (batch, n, d)
  const float* y;     // (batch, n, m)
  const double* lam;  // batch values
  float* w;           // (batch, d, m)
  float* residual;    // (batch, n, m): y − Xw, or null
  float* factor;      // (batch, k, k): L, zeros above the diagonal, or null
  int32_t* status;    // batch values: a RidgeStatus
  int64_t batch, n, d, m;
  bool refine;  // one step of iterative refinement, residual in float64
};

enum RidgeStatus : int32_t { kRidgeSolved = 0, kRidgeNotPositive = 1, kRidgeNotFinite = 2 };

// The adjoint for a gradient g in w: v = (XᵀX + λI)⁻¹g and b = Xv give grad_X = r vᵀ − b wᵀ, grad_y = b,
// grad_λ = −⟨v, w⟩, with r = y − Xw.
struct RidgeAdjointArgs {
  const float* X;         // (batch, n, d)
  const double* lam;      // batch values
  const float* factor;    // (batch, k, k)
  const float* w;         // (batch, d, m)
  const float* residual;  // (batch, n, m)
  const float* grad;      // (batch, d, m)
  float* v;               // (batch, d, m)
  float* b;               // (batch, n, m)
  float* grad_X;          // (batch, n, d) or null
  int64_t batch, n, d, m;
  bool refine;
};

}  // namespace ft
