// Binding of response_peak.
#include "bindings/common.h"

namespace ft {
namespace {

void response_peak(uintptr_t maps, int64_t count, int64_t height, int64_t width, int64_t stride_map, int64_t stride_row,
                   uintptr_t out) {
  const ResponsePeakArgs args{at<const float>(maps), count, height, width, stride_map, stride_row, at<float>(out)};
  py::gil_scoped_release release;
  kernels().response_peak(args);
}

}  // namespace

void bind_response_peak(py::module_& m) { m.def("response_peak", &response_peak); }

}  // namespace ft
