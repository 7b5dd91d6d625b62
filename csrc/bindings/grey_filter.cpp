// Binding of grey_filter.
#include "bindings/common.h"

namespace ft {
namespace {

// Address of the frame; height, width, channels, and strides of each; windows of a model's size in cells of px.
CropResizeArgs windows_of(uintptr_t frame, const std::array<int64_t, 6>& layout, uintptr_t boxes, const CfMaps& maps,
                          int64_t cell) {
  const auto [height, width, channels, stride_y, stride_x, stride_c] = layout;
  return {at<const uint8_t>(frame),
          height,
          width,
          channels,
          stride_y,
          stride_x,
          stride_c,
          at<const double>(boxes),
          maps.targets * maps.scales,
          nullptr,
          nullptr,
          false,
          true,
          nullptr,
          maps.height * cell,
          maps.width * cell};
}

// T, S, H, W.
CfMaps maps_of(const std::array<int64_t, 4>& sizes, uintptr_t window) {
  const auto [targets, scales, height, width] = sizes;
  return {nullptr, targets, scales, 1, height, width, 0, 0, 0, 0, at<const float>(window)};
}

// Index of the first box that is not finite or not of positive size (then nothing is written), or −1.
int64_t grey_detect(uintptr_t frame, const std::array<int64_t, 6>& layout, uintptr_t boxes,
                    const std::array<int64_t, 4>& sizes, int64_t cell, uintptr_t window, uintptr_t model,
                    uintptr_t coefficients, bool gaussian, float sigma, uintptr_t response, uintptr_t table) {
  const CfMaps maps = maps_of(sizes, window);
  const CfDetectArgs filter{maps,  at<const float>(model), at<const float>(coefficients), gaussian,
                            sigma, at<float>(response)};
  const GreyDetectArgs args{windows_of(frame, layout, boxes, maps, cell), cell, filter, at<float>(table)};
  py::gil_scoped_release release;
  const int64_t bad = first_bad_box(args.crop.boxes, args.crop.count);
  if (bad < 0) kernels().grey_detect(args);
  return bad;
}

// `rows` are the places of the targets in the model, which is averaged with what is learnt.
int64_t grey_learn(uintptr_t frame, const std::array<int64_t, 6>& layout, uintptr_t boxes,
                   const std::array<int64_t, 4>& sizes, int64_t cell, uintptr_t window, uintptr_t label,
                   int64_t stride_label, uintptr_t model, uintptr_t coefficients, bool gaussian, float lam, float sigma,
                   const std::vector<int64_t>& rows, float rate) {
  const CfMaps maps = maps_of(sizes, window);
  const CfTrainArgs filter{maps,
                           at<const float>(label),
                           stride_label,
                           gaussian,
                           lam,
                           sigma,
                           at<float>(model),
                           at<float>(coefficients),
                           rows.data(),
                           rate};
  const GreyLearnArgs args{windows_of(frame, layout, boxes, maps, cell), cell, filter};
  py::gil_scoped_release release;
  const int64_t bad = first_bad_box(args.crop.boxes, args.crop.count);
  if (bad < 0) kernels().grey_learn(args);
  return bad;
}

}  // namespace

void bind_grey_filter(py::module_& m) {
  m.def("grey_detect", &grey_detect);
  m.def("grey_learn", &grey_learn);
}

}  // namespace ft
