// CUDA's language for a host compiler: included before a .cu file, it lets its kernels run on the CPU.
//
// Every thread of a block is a fiber; a barrier switches to the next one. What it finds: wrong numbers, reads of
// shared memory nobody wrote (it starts as NaN), writes behind dynamic shared memory, threads that wait at different
// barriers. What it cannot find: races (but an order of the fibers other than the usual one may show them).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
// Each block has its own image of this section, swapped in while its fibers run.
#define __shared__ static __attribute__((section("ft_shared")))

struct uint3 {
  unsigned int x, y, z;
};
using dim3 = uint3;
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace ft_emulation {

struct Place {
  uint3 thread, block, block_size, grid_size;
};
extern const Place* here;  // of the fiber that runs

void block_barrier();
void warp_barrier();
void pause();  // lets every other fiber run, those of other blocks too
unsigned char* dynamic_shared();
void* warp_slot(unsigned int lane);  // 8 bytes for each lane of the fiber's warp
unsigned int lane();

template <class T>
T shuffle(unsigned int mask, T value, unsigned int source, bool valid) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  if (mask != 0xffffffffu) throw "shuffles of part of a warp are not emulated";
  std::memcpy(warp_slot(lane()), &value, sizeof value);
  warp_barrier();
  T got = value;
  if (valid) std::memcpy(&got, warp_slot(source), sizeof got);
  warp_barrier();
  return got;
}

}  // namespace ft_emulation

#define threadIdx (ft_emulation::here->thread)
#define blockIdx (ft_emulation::here->block)
#define blockDim (ft_emulation::here->block_size)
#define gridDim (ft_emulation::here->grid_size)
constexpr int warpSize = 32;

inline void __syncthreads() { ft_emulation::block_barrier(); }
inline void __syncwarp(unsigned int = 0xffffffffu) { ft_emulation::warp_barrier(); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __nanosleep(unsigned int) { ft_emulation::pause(); }

template <class T>
T __shfl_sync(unsigned int mask, T value, int source, int width = 32) {
  const unsigned int me = ft_emulation::lane(), w = static_cast<unsigned int>(width);
  return ft_emulation::shuffle(mask, value, me / w * w + static_cast<unsigned int>(source) % w, true);
}
template <class T>
T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = 32) {
  const unsigned int me = ft_emulation::lane(), w = static_cast<unsigned int>(width);
  return ft_emulation::shuffle(mask, value, me + delta, me % w + delta < w);
}
template <class T>
T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = 32) {
  const unsigned int me = ft_emulation::lane(), w = static_cast<unsigned int>(width);
  return ft_emulation::shuffle(mask, value, me - delta, me % w >= delta);
}
template <class T>
T __shfl_xor_sync(unsigned int mask, T value, int other, int width = 32) {
  const unsigned int me = ft_emulation::lane(), w = static_cast<unsigned int>(width);
  const unsigned int source = me ^ static_cast<unsigned int>(other);
  return ft_emulation::shuffle(mask, value, source, source / w == me / w);
}

template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <class T>
T atomicMax(T* at, T value) {
  const T before = *at;
  *at = value > before ? value : before;
  return before;
}
template <class T>
T atomicExch(T* at, T value) {
  const T before = *at;
  *at = value;
  return before;
}

template <class T>
T __ldg(const T* at) {
  return *at;
}
template <class T>
T __ldcg(const T* at) {
  return *at;
}
template <class T>
void __stcg(T* at, T value) {
  *at = value;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
