// Binding of crop_resize.
#include "bindings/common.h"

namespace ft {
namespace {

// Index of the first box that is not finite or not of positive size (then nothing is written), or −1.
int64_t crop_resize(uintptr_t frame, int64_t height, int64_t width, int64_t channels, int64_t stride_y,
                    int64_t stride_x, int64_t stride_c, uintptr_t boxes, int64_t count, uintptr_t gain,
                    uintptr_t offset, bool constant, bool antialias, uintptr_t out, int64_t out_h, int64_t out_w) {
  const CropResizeArgs args{at<const uint8_t>(frame),
                            height,
                            width,
                            channels,
                            stride_y,
                            stride_x,
                            stride_c,
                            at<const double>(boxes),
                            count,
                            at<const float>(gain),
                            at<const float>(offset),
                            constant,
                            antialias,
                            at<float>(out),
                            out_h,
                            out_w};
  py::gil_scoped_release release;
  const int64_t bad = first_bad_box(args.boxes, count);
  if (bad < 0) kernels().crop_resize(args);
  return bad;
}

}  // namespace

void bind_crop_resize(py::module_& m) { m.def("crop_resize", &crop_resize); }

}  // namespace ft
