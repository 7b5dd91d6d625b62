// Binding of hog.
#include "bindings/common.h"

namespace ft {
namespace {

void hog(uintptr_t patches, int64_t count, int64_t channels, int64_t height, int64_t width, int64_t stride_patch,
         int64_t stride_channel, int64_t stride_row, int64_t cell, uintptr_t out) {
  const HogArgs args{at<const float>(patches), count,      channels, height,        width, stride_patch,
                     stride_channel,           stride_row, cell,     at<float>(out)};
  py::gil_scoped_release release;
  kernels().hog(args);
}

}  // namespace

void bind_hog(py::module_& m) { m.def("hog", &hog); }

}  // namespace ft
