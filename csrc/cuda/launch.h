// Launching any kernel of cuda/api.h from the host.
#pragma once

#include <cstddef>
#include <string>

namespace ft {

struct CudaLaunch {
  unsigned int grid[3], block[3];
  std::size_t shared_bytes;  // dynamic
  bool cooperative;          // all blocks run at once, or the launch fails
  int device;
  void* stream;
};

// Kernels in the order of api.h: name and size of the arguments; null past the end.
const char* cuda_kernel_name(std::size_t index, std::size_t* argument_bytes);

// Both throw std::runtime_error with the driver's words. Nothing is allocated or synchronised.
void cuda_launch(const std::string& kernel, const CudaLaunch& how, const void* arguments, std::size_t bytes);
// How many blocks of a kernel the device holds at once; 0 where one block needs more than it has.
int cuda_resident_blocks(const std::string& kernel, int threads, std::size_t shared_bytes, int device);

}  // namespace ft
