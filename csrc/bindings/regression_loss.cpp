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

}  // namespace

void bind_regression_loss(py::module_& m) { m.def("regression_loss", &regression_loss); }

}  // namespace ft
