// Binding of pca.
#include "bindings/common.h"

namespace ft {
namespace {

void pca_product(uintptr_t x, int64_t rows, int64_t length, int64_t row_stride, int64_t step, uintptr_t row_shift,
                 uintptr_t step_shift, uintptr_t product) {
  const PcaProductArgs args{
      at<const float>(x), rows, length, row_stride, step, at<const float>(row_shift), at<const float>(step_shift),
      at<double>(product)};
  py::gil_scoped_release release;
  kernels().pca_product(args);
}

}  // namespace

void bind_pca(py::module_& m) { m.def("pca_product", &pca_product); }

}  // namespace ft
