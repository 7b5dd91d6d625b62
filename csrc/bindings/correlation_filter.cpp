// Binding of correlation_filter.
#include "bindings/common.h"

namespace ft {
namespace {

// Address of the features; T, S, C, H, W; strides of target, scale, channel, row.
CfMaps maps_of(uintptr_t features, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
               uintptr_t window) {
  return {at<const float>(features),
          sizes[0],
          sizes[1],
          sizes[2],
          sizes[3],
          sizes[4],
          strides[0],
          strides[1],
          strides[2],
          strides[3],
          at<const float>(window)};
}

// `rows` are the places of the targets in the model, which is averaged with what is learnt; with a rate of 1 it is
// written only.
void cf_learn(uintptr_t features, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
              uintptr_t window, uintptr_t label, int64_t stride_label, bool gaussian, float lam, float sigma,
              uintptr_t model, uintptr_t coefficients, const std::vector<int64_t>& rows, float rate) {
  const CfTrainArgs args{maps_of(features, sizes, strides, window),
                         at<const float>(label),
                         stride_label,
                         gaussian,
                         lam,
                         sigma,
                         at<float>(model),
                         at<float>(coefficients),
                         rows.data(),
                         rate};
  py::gil_scoped_release release;
  kernels().cf_train(args);
}

void cf_detect(uintptr_t features, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
               uintptr_t window, uintptr_t model, uintptr_t coefficients, bool gaussian, float sigma,
               uintptr_t response) {
  const CfDetectArgs args{maps_of(features, sizes, strides, window),
                          at<const float>(model),
                          at<const float>(coefficients),
                          gaussian,
                          sigma,
                          at<float>(response)};
  py::gil_scoped_release release;
  kernels().cf_detect(args);
}

void cf_update(uintptr_t a, uintptr_t b, uintptr_t out, int64_t count, float rate) {
  const CfUpdateArgs args{at<const float>(a), at<const float>(b), at<float>(out), count, rate};
  py::gil_scoped_release release;
  kernels().cf_update(args);
}

}  // namespace

void bind_correlation_filter(py::module_& m) {
  m.def("cf_learn", &cf_learn);
  m.def("cf_detect", &cf_detect);
  m.def("cf_update", &cf_update);
}

}  // namespace ft
