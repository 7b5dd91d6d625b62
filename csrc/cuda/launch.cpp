// Host code: the table of kernels and the one way to launch them.
#include "cuda/launch.h"

#include <cuda_runtime.h>

#include <stdexcept>

#include "cuda/api.h"

namespace ft {
namespace {

// More dynamic shared memory than this must be asked for.
constexpr std::size_t kSharedForFree = 48 * 1024;

struct Kernel {
  const char* name;
  const void* entry;
  std::size_t argument_bytes;
};

const Kernel kKernels[] = {
#define FT_ROW(name, Args) {#name, reinterpret_cast<const void*>(&ft_##name), sizeof(Args)},
    FT_CUDA_KERNELS(FT_ROW)
#undef FT_ROW
};

const Kernel& find(const std::string& name) {
  for (const Kernel& kernel : kKernels) {
    if (name == kernel.name) return kernel;
  }
  throw std::runtime_error("no CUDA kernel " + name);
}

void check(cudaError_t code, const std::string& what) {
  if (code != cudaSuccess) throw std::runtime_error("CUDA: " + what + ": " + cudaGetErrorString(code));
}

cudaError_t allow_shared(const Kernel& kernel, std::size_t bytes) {
  if (bytes <= kSharedForFree) return cudaSuccess;
  return cudaFuncSetAttribute(kernel.entry, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace

const char* cuda_kernel_name(std::size_t index, std::size_t* argument_bytes) {
  if (index >= sizeof kKernels / sizeof kKernels[0]) return nullptr;
  *argument_bytes = kKernels[index].argument_bytes;
  return kKernels[index].name;
}

void cuda_launch(const std::string& name, const CudaLaunch& how, const void* arguments, std::size_t bytes) {
  const Kernel& kernel = find(name);
  if (bytes != kernel.argument_bytes) {
    throw std::runtime_error(name + ": arguments of " + std::to_string(kernel.argument_bytes) + " bytes wanted, got " +
                             std::to_string(bytes));
  }
  check(cudaSetDevice(how.device), name);
  check(allow_shared(kernel, how.shared_bytes), name);
  void* list[] = {const_cast<void*>(arguments)};
  const dim3 grid(how.grid[0], how.grid[1], how.grid[2]), block(how.block[0], how.block[1], how.block[2]);
  const auto stream = static_cast<cudaStream_t>(how.stream);
  check(how.cooperative ? cudaLaunchCooperativeKernel(kernel.entry, grid, block, list, how.shared_bytes, stream)
                        : cudaLaunchKernel(kernel.entry, grid, block, list, how.shared_bytes, stream),
        name);
}

int cuda_resident_blocks(const std::string& name, int threads, std::size_t shared_bytes, int device) {
  const Kernel& kernel = find(name);
  check(cudaSetDevice(device), name);
  int limit = 0, processors = 0, blocks = 0;
  check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
  cudaFuncAttributes own;
  check(cudaFuncGetAttributes(&own, kernel.entry), name);
  if (shared_bytes + own.sharedSizeBytes > static_cast<std::size_t>(limit)) return 0;
  check(allow_shared(kernel, shared_bytes), name);
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), name);
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel.entry, threads, shared_bytes), name);
  return blocks * processors;
}

}  // namespace ft
