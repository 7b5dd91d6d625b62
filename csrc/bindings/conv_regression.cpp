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

// Channels of the maps, their shares, factors of the rates of regressors and maps and of the regressors' decay.
using FusionTuple = std::tuple<std::vector<int64_t>, std::vector<double>, std::vector<double>, std::vector<double>,
                               std::vector<double>>;

// One optimisation as Python describes it, with what its arguments point to.
struct ConvRunCall {
  explicit ConvRunCall(const py::dict& d) {
    const auto number = [&](const char* key) { return d[key].cast<int64_t>(); };
    const auto real = [&](const char* key) { return d[key].cast<double>(); };
    const auto memory = [&](const char* key) { return at<float>(d[key].cast<uintptr_t>()); };
    const auto kernel = d["kernel"].cast<std::tuple<int64_t, int64_t>>();
    const auto tile = d["tile"].cast<std::tuple<int64_t, int64_t>>();
    const auto loss = d["loss"].cast<std::tuple<int, float, float>>();
    for (const auto& [spectra, target, height, width] : d["frames"].cast<std::vector<FrameTuple>>()) {
      frames.push_back({at<const float>(spectra), at<const float>(target), height, width});
    }
    args.channels = number("channels");
    std::tie(args.kernel_h, args.kernel_w) = kernel;
    std::tie(args.tile_h, args.tile_w) = tile;
    args.loss = {static_cast<Loss>(std::get<0>(loss)), std::get<1>(loss), std::get<2>(loss)};
    args.weight_decay = real("weight_decay");
    args.optimizer = static_cast<ConvOptimizer>(number("optimizer"));
    args.learning_rate = real("lr");
    args.bias_learning_rate = real("bias_lr");
    args.steps = number("steps");
    args.tolerance = real("tolerance");
    args.patience = number("patience");
    args.evaluate = d["evaluate"].cast<bool>();
    args.weight = memory("weight");
    args.bias = memory("bias");
    args.reduction = {number("reduced"), memory("reduction"), memory("reduction_moments"), real("reduction_lr"),
                      real("reduction_decay")};
    std::tie(channels, mixing, rates, map_rates, decays) = d["fusion"].cast<FusionTuple>();
    args.fusion = {static_cast<int64_t>(channels.size()),
                   static_cast<int64_t>(rates.size()),
                   channels.data(),
                   mixing.data(),
                   rates.data(),
                   map_rates.data(),
                   decays.data()};
    args.moments = memory("moments");
    args.bias_moments = memory("bias_moments");
    args.steps_before = number("steps_before");
    args.history = at<double>(d["history"].cast<uintptr_t>());
    args.workspace = memory("workspace");
  }

  std::vector<ConvFrame> frames;
  std::vector<int64_t> channels;
  std::vector<double> mixing, rates, map_rates, decays;
  int64_t counts[3] = {0, 0, 0}, floats = 0;
  ConvRunArgs args{};
};

// Optimisations that share nothing. A null workspace in any only asks for the sizes. Per run: (floats of workspace,
// steps, rows of history, 1 if patience ran out).
py::list conv_runs(const std::vector<py::dict>& runs) {
  std::vector<ConvRunCall> calls(runs.begin(), runs.end());
  std::vector<ConvRunArgs> args;
  for (ConvRunCall& call : calls) {
    call.args.frames = call.frames.data();
    call.args.frame_count = static_cast<int64_t>(call.frames.size());
    call.args.counts = call.counts;
    call.args.workspace_floats = &call.floats;
    args.push_back(call.args);
  }
  {
    py::gil_scoped_release release;
    kernels().conv_runs({args.data(), static_cast<int64_t>(args.size())});
  }
  py::list out;
  for (const ConvRunCall& c : calls) out.append(py::make_tuple(c.floats, c.counts[0], c.counts[1], c.counts[2]));
  return out;
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
  m.def("conv_runs", &conv_runs);
}

}  // namespace ft
