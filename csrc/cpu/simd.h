// Vector type of the instruction set this file is compiled for (GCC/Clang vector extensions).
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE__)
#include <immintrin.h>
#endif

#ifndef FT_ISA
#error "FT_ISA names the namespace of the instruction set; the build defines it"
#endif

#if FT_ISA_LEVEL >= 2
#define FT_LANES 16
#elif FT_ISA_LEVEL == 1
#define FT_LANES 8
#else
#define FT_LANES 4
#endif

#define FT_INLINE inline __attribute__((always_inline))

namespace ft {
namespace FT_ISA {

typedef float vf __attribute__((vector_size(FT_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(FT_LANES * 4)));

FT_INLINE vf splat(float x) { return x - vf{}; }
FT_INLINE vi splat_int(int32_t x) { return x - vi{}; }

FT_INLINE vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

FT_INLINE void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }

// Per-lane choice: `mask` is all ones or all zeros in each lane, as comparisons give it.
FT_INLINE vf select(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

FT_INLINE vf abs(vf v) { return (vf)((vi)v & splat_int(0x7fffffff)); }

// v, but not above (below) the limit; NaN stays NaN. One instruction, where a comparison and a choice are two;
// the plain AVX-512 forms make g++ 12 warn.
#if FT_ISA_LEVEL >= 2
FT_INLINE vf at_most(float limit, vf v) { return (vf)_mm512_maskz_min_ps(0xffff, (__m512)splat(limit), (__m512)v); }
FT_INLINE vf at_least(float limit, vf v) { return (vf)_mm512_maskz_max_ps(0xffff, (__m512)splat(limit), (__m512)v); }
#elif FT_ISA_LEVEL == 1
FT_INLINE vf at_most(float limit, vf v) { return (vf)_mm256_min_ps((__m256)splat(limit), (__m256)v); }
FT_INLINE vf at_least(float limit, vf v) { return (vf)_mm256_max_ps((__m256)splat(limit), (__m256)v); }
#elif defined(__SSE__)
FT_INLINE vf at_most(float limit, vf v) { return (vf)_mm_min_ps((__m128)splat(limit), (__m128)v); }
FT_INLINE vf at_least(float limit, vf v) { return (vf)_mm_max_ps((__m128)splat(limit), (__m128)v); }
#else
FT_INLINE vf at_most(float limit, vf v) { return select(v > splat(limit), splat(limit), v); }
FT_INLINE vf at_least(float limit, vf v) { return select(v < splat(limit), splat(limit), v); }
#endif

FT_INLINE float sum(vf v) {
  float total = 0;
  for (int i = 0; i < FT_LANES; ++i) total += v[i];
  return total;
}

}  // namespace FT_ISA
}  // namespace ft
