// Bindings of the CUDA kernels: one launcher for all of them.
#include "bindings/common.h"

#ifdef FT_WITH_CUDA
#include "cuda/launch.h"
#endif

namespace ft {

#ifdef FT_WITH_CUDA
namespace {

py::dict argument_sizes() {
  py::dict sizes;
  std::size_t bytes = 0;
  for (std::size_t i = 0; const char* name = cuda_kernel_name(i, &bytes); ++i) sizes[name] = bytes;
  return sizes;
}

// Nothing here waits for the device, so the interpreter's lock is kept: releasing it costs more than a launch.
void launch(const std::string& kernel, const std::tuple<unsigned, unsigned, unsigned>& grid, unsigned threads,
            std::size_t shared_bytes, bool cooperative, int device, uintptr_t stream, const py::bytes& arguments) {
  const auto [x, y, z] = grid;
  const CudaLaunch how{{x, y, z}, {threads, 1, 1}, shared_bytes, cooperative, device, at<void>(stream)};
  const std::string_view blob(arguments);
  cuda_launch(kernel, how, blob.data(), blob.size());
}

}  // namespace
#endif

void bind_cuda(py::module_& m) {
#ifdef FT_WITH_CUDA
  m.attr("cuda") = true;
  m.def("cuda_argument_sizes", &argument_sizes, "kernel -> bytes of its arguments");
  m.def("cuda_launch", &launch);
  m.def("cuda_resident_blocks", &cuda_resident_blocks);
#else
  m.attr("cuda") = false;
#endif
}

}  // namespace ft
