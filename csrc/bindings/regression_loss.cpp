// Bindings of regression_loss.
#include "bindings/common.h"

namespace ft {
namespace {

RegressionLossArgs loss_args(uintptr_t prediction, uintptr_t target, uintptr_t weight, uintptr_t value, uintptr_t grad,
                             int64_t n, int form, float a, float c, float scale, bool reduced) {
  return {at<const float>(prediction),
          at<const float>(target),
          at<const float>(weight),
          at<float>(value),
          at<float>(grad),
          n,
          {static_cast<Loss>(form), a, c},
          scale,
          reduced};
}

void regression_loss(uintptr_t prediction, uintptr_t target, uintptr_t weight, uintptr_t value, uintptr_t grad,
                     int64_t n, int form, float a, float c, float scale, bool reduced) {
  const auto args = loss_args(prediction, target, weight, value, grad, n, form, a, c, scale, reduced);
  py::gil_scoped_release release;
  kernels().regression_loss(args);
}

#ifdef FT_WITH_CUDA
void check_cuda(int code) {
  if (code != 0) throw std::runtime_error(std::string("CUDA: ") + cuda_error_text(code));
}

void regression_loss_on_gpu(uintptr_t prediction, uintptr_t target, uintptr_t weight, uintptr_t value, uintptr_t grad,
                            int64_t n, int form, float a, float c, float scale, bool reduced, uintptr_t partial,
                            int blocks, int device, uintptr_t stream) {
  const auto args = loss_args(prediction, target, weight, value, grad, n, form, a, c, scale, reduced);
  py::gil_scoped_release release;
  check_cuda(cuda_set_device(device));
  check_cuda(regression_loss_cuda(args, at<double>(partial), blocks, at<void>(stream)));
}
#endif

}  // namespace

void bind_regression_loss(py::module_& m) {
  m.def("regression_loss", &regression_loss);
#ifdef FT_WITH_CUDA
  m.def("regression_loss_cuda", &regression_loss_on_gpu);
#endif
}

}  // namespace ft
