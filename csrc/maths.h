// Scalar maths that g++ vectorises and nvcc compiles alike.
#pragma once

#if defined(__CUDACC_RTC__)  // no std headers at run time: the types they would bring, and memcpy is built in
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#include <cstring>
#endif

#if defined(__CUDACC__)
#define FT_HD __host__ __device__ __forceinline__
#else
#define FT_HD inline __attribute__((always_inline))
#endif

namespace ft {

// exp(x), relative error below 2e-7: x = n·ln2 + r, |r| ≤ ln2/2, a degree-6 polynomial of r, times 2ⁿ.
// It saturates at exp(±87) instead of reaching 0 or infinity; NaN stays NaN. No branch: loops over it vectorise.
FT_HD float fast_exp(float x) {
  const float low = -87.0f, high = 87.0f;
  float clamped = x > low ? x : low;
  clamped = clamped < high ? clamped : high;
  // Adding 1.5·2²³ rounds to the nearest integer and leaves it in the low mantissa bits.
  const float magic = 12582912.0f;
  const float shifted = clamped * 1.44269504f + magic;
  const float n = shifted - magic;
  float r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits <<= 23;  // the magic's own bits are shifted out; what stays is n in the exponent field
  uint32_t value;
  memcpy(&value, &p, sizeof value);
  value += bits;
  float result;
  memcpy(&result, &value, sizeof result);
  return x == x ? result : x;
}

}  // namespace ft
