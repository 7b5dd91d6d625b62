// Bindings of RoI pooling.
#include "bindings/common.h"

namespace ft {
namespace {

// Address, float64?, count, scale, P, Q, images, height, width.
using RoisTuple = std::tuple<uintptr_t, bool, int64_t, double, int64_t, int64_t, int64_t, int64_t, int64_t>;
using Strides = std::array<int64_t, 4>;

PrroiRois rois_of(const RoisTuple& t) {
  return {at<const void>(std::get<0>(t)),
          std::get<1>(t),
          std::get<2>(t),
          std::get<3>(t),
          std::get<4>(t),
          std::get<5>(t),
          std::get<6>(t),
          std::get<7>(t),
          std::get<8>(t)};
}

// Index of the first RoI whose image does not exist (then nothing is written), or −1.
int64_t prroi_pool(const RoisTuple& rois, uintptr_t features, int64_t channels, const Strides& s, uintptr_t out) {
  const PrroiPoolArgs args{rois_of(rois), at<const float>(features), channels, s[0], s[1], s[2], s[3], at<float>(out)};
  py::gil_scoped_release release;
  const int64_t bad = first_roi_without_image(args.rois);
  if (bad < 0) kernels().prroi_pool(args);
  return bad;
}

void prroi_features_gradient(const RoisTuple& rois, uintptr_t grad, int64_t channels, uintptr_t out) {
  const PrroiFeaturesGradientArgs args{rois_of(rois), at<const float>(grad), channels, at<float>(out)};
  py::gil_scoped_release release;
  kernels().prroi_features_gradient(args);
}

void prroi_rois_gradient(const RoisTuple& rois, uintptr_t features, int64_t channels, const Strides& s, uintptr_t grad,
                         uintptr_t out) {
  const PrroiRoisGradientArgs args{rois_of(rois), at<const float>(features), channels,       s[0], s[1], s[2],
                                   s[3],          at<const float>(grad),     at<double>(out)};
  py::gil_scoped_release release;
  kernels().prroi_rois_gradient(args);
}

int64_t prroi_bin_sum(const RoisTuple& rois, uintptr_t maps, uintptr_t out) {
  const PrroiBinSumArgs args{rois_of(rois), at<const float>(maps), at<float>(out)};
  py::gil_scoped_release release;
  const int64_t bad = first_roi_without_image(args.rois);
  if (bad < 0) kernels().prroi_bin_sum(args);
  return bad;
}

void prroi_bin_sum_maps_gradient(const RoisTuple& rois, uintptr_t grad, uintptr_t out) {
  const PrroiBinSumMapsGradientArgs args{rois_of(rois), at<const float>(grad), at<float>(out)};
  py::gil_scoped_release release;
  kernels().prroi_bin_sum_maps_gradient(args);
}

void prroi_bin_sum_rois_gradient(const RoisTuple& rois, uintptr_t maps, uintptr_t grad, uintptr_t out) {
  const PrroiBinSumRoisGradientArgs args{rois_of(rois), at<const float>(maps), at<const float>(grad), at<double>(out)};
  py::gil_scoped_release release;
  kernels().prroi_bin_sum_rois_gradient(args);
}

}  // namespace

void bind_prroi_pool(py::module_& m) {
  m.def("prroi_pool", &prroi_pool);
  m.def("prroi_features_gradient", &prroi_features_gradient);
  m.def("prroi_rois_gradient", &prroi_rois_gradient);
  m.def("prroi_bin_sum", &prroi_bin_sum);
  m.def("prroi_bin_sum_maps_gradient", &prroi_bin_sum_maps_gradient);
  m.def("prroi_bin_sum_rois_gradient", &prroi_bin_sum_rois_gradient);
}

}  // namespace ft
