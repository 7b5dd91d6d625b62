// Binding of lrn.
#include "bindings/common.h"

namespace ft {
namespace {

void lrn(uintptr_t x, uintptr_t out, const std::vector<int64_t>& shape, bool channels_last, int64_t before,
         int64_t after, float k, float alpha, float beta, int64_t pool, int64_t stride, int64_t out_h, int64_t out_w) {
  const LrnArgs args{at<const float>(x),
                     at<float>(out),
                     shape[0],
                     shape[1],
                     shape[2],
                     shape[3],
                     channels_last,
                     before,
                     after,
                     k,
                     alpha,
                     beta,
                     pool,
                     stride,
                     out_h,
                     out_w};
  py::gil_scoped_release release;
  kernels().lrn(args);
}

}  // namespace

void bind_lrn(py::module_& m) { m.def("lrn", &lrn); }

}  // namespace ft
