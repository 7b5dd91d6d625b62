// Estimate of the reciprocal square root.
#pragma once

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

// 1/√v with a relative error below 4e-4, v a normal float.
FT_INLINE vf rsqrt_estimate(vf v) {
#if FT_ISA_LEVEL >= 2
  return (vf)_mm512_maskz_rsqrt14_ps(0xffff, (__m512)v);  // the plain form makes g++ 12 warn
#elif FT_ISA_LEVEL == 1
  return (vf)_mm256_rsqrt_ps((__m256)v);
#elif defined(__SSE__)
  return (vf)_mm_rsqrt_ps((__m128)v);
#else
  for (int i = 0; i < FT_LANES; ++i) v[i] = 1.0f / __builtin_sqrtf(v[i]);
  return v;
#endif
}

}  // namespace FT_ISA
}  // namespace ft
