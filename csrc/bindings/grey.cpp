// Binding of grey.
#include "bindings/common.h"

namespace ft {
namespace {

void grey(uintptr_t patches, int64_t count, int64_t channels, int64_t height, int64_t width, int64_t stride_patch,
          int64_t stride_channel, int64_t stride_row, int64_t cell, uintptr_t out) {
  const GreyArgs args{at<const float>(patches), count,      channels, height,        width, stride_patch,
                      stride_channel,           stride_row, cell,     at<float>(out)};
  py::gil_scoped_release release;
  kernels().grey(args);
}

}  // namespace

void bind_grey(py::module_& m) { m.def("grey", &grey); }

}  // namespace ft
