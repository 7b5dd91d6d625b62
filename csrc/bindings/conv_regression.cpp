// Bindings of conv_regression.
#include "bindings/common.h"

namespace ft {
namespace {

ConvShape conv_shape(const std::vector<int64_t>& s) { return {s[0], s[1], s[2], s[3], s[4], s[5], s[6]}; }

py::tuple conv_plan(const std::vector<int64_t>& shape, int64_t frames) {
  int64_t tile[2];
  kernels().conv_plan({conv_shape(shape), frames, tile});
  return py::make_tuple(tile[0], tile[1]);
}

int64_t conv_spectra_size(const std::vector<int64_t>& shape) {
  int64_t floats;
  kernels().conv_spectra_size({conv_shape(shape), &floats});
  return floats;
}

void conv_spectra(const std::vector<int64_t>& shape, uintptr_t features, uintptr_t spectra) {
  const ConvSpectraArgs args{conv_shape(shape), at<const float>(features), at<float>(spectra)};
  py::gil_scoped_release release;
  kernels().conv_spectra(args);
}

void conv_response(const std::vector<int64_t>& shape, uintptr_t spectra, uintptr_t weight, uintptr_t bias,
                   uintptr_t response) {
  const ConvResponseArgs args{conv_shape(shape), at<const float>(spectra), at<const float>(weight),
                              at<const float>(bias), at<float>(response)};
  py::gil_scoped_release release;
  kernels().conv_response(args);
}

void conv_direct(const std::vector<int64_t>& shape, uintptr_t features, uintptr_t weight, uintptr_t bias,
                 uintptr_t response) {
  const ConvDirectArgs args{conv_shape(shape), at<const float>(features), at<const float>(weight),
                            at<const float>(bias), at<float>(response)};
  py::gil_scoped_release release;
  kernels().conv_direct(args);
}

void conv_weight_gradient(const std::vector<int64_t>& shape, uintptr_t spectra, uintptr_t response_gradient,
                          uintptr_t weight_gradient) {
  const ConvWeightGradientArgs args{conv_shape(shape), at<const float>(spectra), at<const float>(response_gradient),
                                    at<float>(weight_gradient)};
  py::gil_scoped_release release;
  kernels().conv_weight_gradient(args);
}

void conv_features_gradient(const std::vector<int64_t>& shape, uintptr_t response_gradient, uintptr_t weight,
                            uintptr_t features_gradient) {
  const ConvFeaturesGradientArgs args{conv_shape(shape), at<const float>(response_gradient), at<const float>(weight),
                                      at<float>(features_gradient)};
  py::gil_scoped_release release;
  kernels().conv_features_gradient(args);
}

using FrameTuple = std::tuple<uintptr_t, uintptr_t, int64_t, int64_t>;  // spectra, target, height, width

// One optimisation; a null workspace only asks for its size in floats. Returns (size, steps, rows of history).
py::tuple conv_run(const std::vector<int64_t>& kernel_and_tile, const std::vector<FrameTuple>& frames,
                   const std::tuple<int, float, float>& loss, double weight_decay, int optimizer, double learning_rate,
                   int64_t steps, double tolerance, bool evaluate, uintptr_t weight, uintptr_t bias, uintptr_t moments,
                   uintptr_t bias_moments, int64_t steps_before, uintptr_t history, uintptr_t workspace) {
  std::vector<ConvFrame> list;
  for (const auto& [spectra, target, height, width] : frames) {
    list.push_back({at<const float>(spectra), at<const float>(target), height, width});
  }
  int64_t counts[2] = {0, 0}, floats = 0;
  const std::vector<int64_t>& k = kernel_and_tile;
  const LossParams params{static_cast<Loss>(std::get<0>(loss)), std::get<1>(loss), std::get<2>(loss)};
  const ConvRunArgs args{k[0],
                         k[1],
                         k[2],
                         k[3],
                         k[4],
                         list.data(),
                         static_cast<int64_t>(list.size()),
                         params,
                         weight_decay,
                         static_cast<ConvOptimizer>(optimizer),
                         learning_rate,
                         steps,
                         tolerance,
                         evaluate,
                         at<float>(weight),
                         at<float>(bias),
                         at<float>(moments),
                         at<float>(bias_moments),
                         steps_before,
                         at<double>(history),
                         counts,
                         at<float>(workspace),
                         &floats};
  {
    py::gil_scoped_release release;
    kernels().conv_run(args);
  }
  return py::make_tuple(floats, counts[0], counts[1]);
}

}  // namespace

void bind_conv_regression(py::module_& m) {
  m.def("conv_plan", &conv_plan);
  m.def("conv_spectra_size", &conv_spectra_size);
  m.def("conv_spectra", &conv_spectra);
  m.def("conv_response", &conv_response);
  m.def("conv_direct", &conv_direct);
  m.def("conv_weight_gradient", &conv_weight_gradient);
  m.def("conv_features_gradient", &conv_features_gradient);
  m.def("conv_run", &conv_run);
}

}  // namespace ft
