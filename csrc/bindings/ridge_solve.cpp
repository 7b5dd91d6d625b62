// Bindings of ridge_solve.
#include "bindings/common.h"

namespace ft {
namespace {

// Batch, samples, features, right-hand sides.
using Sizes = std::tuple<int64_t, int64_t, int64_t, int64_t>;

void ridge_solve(const Sizes& sizes, uintptr_t X, uintptr_t y, uintptr_t lam, uintptr_t w, uintptr_t residual,
                 uintptr_t factor, uintptr_t status, bool refine) {
  const auto [batch, n, d, m] = sizes;
  const RidgeSolveArgs args{at<const float>(X),
                            at<const float>(y),
                            at<const double>(lam),
                            at<float>(w),
                            at<float>(residual),
                            at<float>(factor),
                            at<int32_t>(status),
                            batch,
                            n,
                            d,
                            m,
                            refine};
  py::gil_scoped_release release;
  kernels().ridge_solve(args);
}

void ridge_adjoint(const Sizes& sizes, uintptr_t X, uintptr_t lam, uintptr_t factor, uintptr_t w, uintptr_t residual,
                   uintptr_t grad, uintptr_t v, uintptr_t b, uintptr_t grad_X, bool refine) {
  const auto [batch, n, d, m] = sizes;
  const RidgeAdjointArgs args{at<const float>(X),
                              at<const double>(lam),
                              at<const float>(factor),
                              at<const float>(w),
                              at<const float>(residual),
                              at<const float>(grad),
                              at<float>(v),
                              at<float>(b),
                              at<float>(grad_X),
                              batch,
                              n,
                              d,
                              m,
                              refine};
  py::gil_scoped_release release;
  kernels().ridge_adjoint(args);
}

}  // namespace

void bind_ridge_solve(py::module_& m) {
  m.def("ridge_solve", &ridge_solve);
  m.def("ridge_adjoint", &ridge_adjoint);
}

}  // namespace ft
