// What every .cu file needs of the device: dynamic shared memory, and a barrier across the grid.
//
// The kernels are compiled by nvcc, by NVRTC (no std headers) and, to test their numbers without a GPU, by a host
// compiler with an emulation header (FT_CUDA_EMULATION).
#pragma once

#include "maths.h"

#if defined(FT_CUDA_EMULATION)
#define FT_DYNAMIC_SHARED(name) unsigned char* const name = ft_emulation::dynamic_shared()
#else
#define FT_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

// A kernel whose blocks all run at once: every thread of the grid waits here for all others. What was written before
// is seen after, by loads that go to L2 (__ldcg): L1 is not coherent. `arrived` counts from 0 at launch.
// Same cost as cooperative_groups' grid sync, without its headers, which NVRTC may not find.
__device__ __forceinline__ void ft_grid_sync(unsigned int* arrived) {
  __syncthreads();
  if (threadIdx.x == 0) {
    const unsigned int blocks = gridDim.x;
    __threadfence();
    const unsigned int ticket = atomicAdd(arrived, 1u);
    const unsigned int wanted = (ticket / blocks + 1) * blocks;
    while (static_cast<int>(*static_cast<volatile unsigned int*>(arrived) - wanted) < 0) __nanosleep(20);
    __threadfence();
  }
  __syncthreads();
}
