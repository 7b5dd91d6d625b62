// The border to Python: the only file that knows pybind11. Tensors cross as addresses and sizes.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "cpu/api.h"
#ifdef FT_WITH_CUDA
#include "cuda/api.h"
#endif

namespace py = pybind11;

namespace ft {

#define FT_ISA_ROW(isa)    \
  namespace isa {          \
  const CpuTable& table(); \
  }
FT_ISA_LIST
#undef FT_ISA_ROW

namespace {

struct Isa {
  const char* name;
  const CpuTable* table;
  bool supported;
};

bool cpu_supports(const std::string& isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == "avx2") {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  }
  if (isa == "avx512") {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  }
#endif
  return isa == "baseline";
}

// From the least to the most capable, as the build lists them.
const std::vector<Isa>& isas() {
  static const std::vector<Isa> all = {
#define FT_ISA_ROW(isa) Isa{#isa, &isa::table(), cpu_supports(#isa)},
      FT_ISA_LIST
#undef FT_ISA_ROW
  };
  return all;
}

const Isa& choose_isa() {
  const char* forced = std::getenv("FASTTRACK_ISA");
  const Isa* best = nullptr;
  std::string known;
  for (const Isa& isa : isas()) {
    known += std::string(known.empty() ? "" : ", ") + isa.name;
    if (forced != nullptr && isa.name == std::string(forced)) {
      if (!isa.supported) throw std::runtime_error("FASTTRACK_ISA=" + std::string(forced) + ": this CPU lacks it");
      return isa;
    }
    if (isa.supported) best = &isa;
  }
  if (forced != nullptr) {
    throw std::runtime_error("FASTTRACK_ISA must be one of " + known + ", got '" + forced + "'");
  }
  return *best;
}

const Isa& isa() {
  static const Isa& chosen = choose_isa();
  return chosen;
}

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

RegressionLossArgs loss_args(uintptr_t prediction, uintptr_t target, uintptr_t weight, uintptr_t value, uintptr_t grad,
                             int64_t n, int form, float a, float c, float scale, bool reduced) {
  return {at<const float>(prediction),
          at<const float>(target),
          at<const float>(weight),
          at<float>(value),
          at<float>(grad),
          n,
          {static_cast<Loss>(form), a, c},
          scale,
          reduced};
}

void regression_loss(uintptr_t prediction, uintptr_t target, uintptr_t weight, uintptr_t value, uintptr_t grad,
                     int64_t n, int form, float a, float c, float scale, bool reduced) {
  const auto args = loss_args(prediction, target, weight, value, grad, n, form, a, c, scale, reduced);
  py::gil_scoped_release release;
  isa().table->regression_loss(args);
}

// Index of the first box that is not finite or not of positive size (then nothing is written), or −1.
int64_t crop_resize(uintptr_t frame, int64_t height, int64_t width, int64_t channels, int64_t stride_y,
                    int64_t stride_x, int64_t stride_c, uintptr_t boxes, int64_t count, uintptr_t gain,
                    uintptr_t offset, bool constant, uintptr_t out, int64_t out_h, int64_t out_w) {
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
                            at<float>(out),
                            out_h,
                            out_w};
  py::gil_scoped_release release;
  const int64_t bad = first_bad_box(args.boxes, count);
  if (bad < 0) isa().table->crop_resize(args);
  return bad;
}

void hog(uintptr_t patches, int64_t count, int64_t channels, int64_t height, int64_t width, int64_t stride_patch,
         int64_t stride_channel, int64_t stride_row, int64_t cell, uintptr_t out) {
  const HogArgs args{at<const float>(patches), count,      channels, height,        width, stride_patch,
                     stride_channel,           stride_row, cell,     at<float>(out)};
  py::gil_scoped_release release;
  isa().table->hog(args);
}

void response_peak(uintptr_t maps, int64_t count, int64_t height, int64_t width, int64_t stride_map, int64_t stride_row,
                   uintptr_t position, uintptr_t score, uintptr_t psr) {
  const ResponsePeakArgs args{
      at<const float>(maps), count,         height, width, stride_map, stride_row, at<float>(position),
      at<float>(score),      at<float>(psr)};
  py::gil_scoped_release release;
  isa().table->response_peak(args);
}

#ifdef FT_WITH_CUDA
void check_cuda(int code) {
  if (code != 0) throw std::runtime_error(std::string("CUDA: ") + cuda_error_text(code));
}

void regression_loss_on_gpu(uintptr_t prediction, uintptr_t target, uintptr_t weight, uintptr_t value, uintptr_t grad,
                            int64_t n, int form, float a, float c, float scale, bool reduced, uintptr_t partial,
                            int blocks, int device, uintptr_t stream) {
  const auto args = loss_args(prediction, target, weight, value, grad, n, form, a, c, scale, reduced);
  py::gil_scoped_release release;
  check_cuda(cuda_set_device(device));
  check_cuda(regression_loss_cuda(args, at<double>(partial), blocks, at<void>(stream)));
}
#endif

ConvShape conv_shape(const std::vector<int64_t>& s) { return {s[0], s[1], s[2], s[3], s[4], s[5], s[6]}; }

py::tuple conv_plan(const std::vector<int64_t>& shape, int64_t frames) {
  int64_t tile[2];
  isa().table->conv_plan({conv_shape(shape), frames, tile});
  return py::make_tuple(tile[0], tile[1]);
}

int64_t conv_spectra_size(const std::vector<int64_t>& shape) {
  int64_t floats;
  isa().table->conv_spectra_size({conv_shape(shape), &floats});
  return floats;
}

void conv_spectra(const std::vector<int64_t>& shape, uintptr_t features, uintptr_t spectra) {
  const ConvSpectraArgs args{conv_shape(shape), at<const float>(features), at<float>(spectra)};
  py::gil_scoped_release release;
  isa().table->conv_spectra(args);
}

void conv_response(const std::vector<int64_t>& shape, uintptr_t spectra, uintptr_t weight, uintptr_t bias,
                   uintptr_t response) {
  const ConvResponseArgs args{conv_shape(shape), at<const float>(spectra), at<const float>(weight),
                              at<const float>(bias), at<float>(response)};
  py::gil_scoped_release release;
  isa().table->conv_response(args);
}

void conv_direct(const std::vector<int64_t>& shape, uintptr_t features, uintptr_t weight, uintptr_t bias,
                 uintptr_t response) {
  const ConvDirectArgs args{conv_shape(shape), at<const float>(features), at<const float>(weight),
                            at<const float>(bias), at<float>(response)};
  py::gil_scoped_release release;
  isa().table->conv_direct(args);
}

void conv_weight_gradient(const std::vector<int64_t>& shape, uintptr_t spectra, uintptr_t response_gradient,
                          uintptr_t weight_gradient) {
  const ConvWeightGradientArgs args{conv_shape(shape), at<const float>(spectra), at<const float>(response_gradient),
                                    at<float>(weight_gradient)};
  py::gil_scoped_release release;
  isa().table->conv_weight_gradient(args);
}

void conv_features_gradient(const std::vector<int64_t>& shape, uintptr_t response_gradient, uintptr_t weight,
                            uintptr_t features_gradient) {
  const ConvFeaturesGradientArgs args{conv_shape(shape), at<const float>(response_gradient), at<const float>(weight),
                                      at<float>(features_gradient)};
  py::gil_scoped_release release;
  isa().table->conv_features_gradient(args);
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
    isa().table->conv_run(args);
  }
  return py::make_tuple(floats, counts[0], counts[1]);
}

py::list isa_list() {
  py::list out;
  for (const Isa& isa : isas()) out.append(py::make_tuple(isa.name, isa.supported));
  return out;
}

}  // namespace
}  // namespace ft

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of fasttrack: plain addresses and sizes in, nothing allocated.";
  ft::isa();  // a wrong FASTTRACK_ISA fails the import, with its reason
  m.def("isa", [] { return std::string(ft::isa().name); }, "instruction set in use");
  m.def("isas", &ft::isa_list, "(name, supported by this CPU) of every instruction set in this build");
  m.def("crop_resize", &ft::crop_resize);
  m.def("hog", &ft::hog);
  m.def("regression_loss", &ft::regression_loss);
  m.def("response_peak", &ft::response_peak);
#ifdef FT_WITH_CUDA
  m.attr("cuda") = true;
  m.def("regression_loss_cuda", &ft::regression_loss_on_gpu);
#else
  m.attr("cuda") = false;
#endif
  m.def("conv_plan", &ft::conv_plan);
  m.def("conv_spectra_size", &ft::conv_spectra_size);
  m.def("conv_spectra", &ft::conv_spectra);
  m.def("conv_response", &ft::conv_response);
  m.def("conv_direct", &ft::conv_direct);
  m.def("conv_weight_gradient", &ft::conv_weight_gradient);
  m.def("conv_features_gradient", &ft::conv_features_gradient);
  m.def("conv_run", &ft::conv_run);
}
