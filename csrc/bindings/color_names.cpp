// Binding of color_names.
#include "bindings/common.h"

namespace ft {
namespace {

void color_names(uintptr_t patches, int64_t count, int64_t height, int64_t width, int64_t stride_patch,
                 int64_t stride_channel, int64_t stride_row, int64_t cell, uintptr_t table, int64_t terms,
                 uintptr_t out) {
  const ColorNamesArgs args{
      at<const float>(patches), count, height,        width, stride_patch, stride_channel, stride_row, cell,
      at<const float>(table),   terms, at<float>(out)};
  py::gil_scoped_release release;
  kernels().color_names(args);
}

}  // namespace

void bind_color_names(py::module_& m) { m.def("color_names", &color_names); }

}  // namespace ft
