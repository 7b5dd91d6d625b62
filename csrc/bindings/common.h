// What the bindings share. This folder is the only place that knows pybind11: tensors cross as addresses and sizes.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "cpu/api.h"

namespace py = pybind11;

namespace ft {

// The kernels of the instruction set in use.
const CpuTable& kernels();

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// One file per op, one line here.
// clang-format off
#define FT_BINDINGS(X)  \
  X(color_names)        \
  X(conv_regression)    \
  X(correlation_filter) \
  X(crop_resize)        \
  X(cuda)               \
  X(grey)               \
  X(grey_filter)        \
  X(hog)                \
  X(lrn)                \
  X(pca)                \
  X(prroi_pool)         \
  X(regression_loss)    \
  X(response_peak)      \
  X(ridge_solve)
// clang-format on

#define FT_BINDING(op) void bind_##op(py::module_& m);
FT_BINDINGS(FT_BINDING)
#undef FT_BINDING

}  // namespace ft
