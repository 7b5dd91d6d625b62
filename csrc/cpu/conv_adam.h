// torch.optim.Adam's update (betas 0.9 and 0.999, eps 1e-8), in its order of operations.
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

struct Adam {
  double learning_rate;
  double first = 1;
  float step_size = 0, root_correction = 1;

  void at(int64_t step) {  // step counts from 1
    first = 1.0 - std::pow(0.9, static_cast<double>(step));
    const double second = 1.0 - std::pow(0.999, static_cast<double>(step));
    step_size = static_cast<float>(learning_rate / first);
    root_correction = static_cast<float>(std::sqrt(second));
  }
  // The same step with another learning rate.
  Adam with(double rate) const {
    Adam other = *this;
    other.learning_rate = rate;
    other.step_size = static_cast<float>(rate / first);
    return other;
  }
  // One column of weights, whose gradient is scale * gradient + decay * weight.
  void update_all(float scale, float decay, const float* __restrict gradient, std::ptrdiff_t count,
                  float* __restrict weight, float* __restrict mean, float* __restrict square) const {
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      weight[i] = update(weight[i], gradient[i] * scale + decay * weight[i], mean[i], square[i]);
    }
  }
  FT_INLINE float update(float weight, float gradient, float& mean, float& square) const {
    mean += (gradient - mean) * static_cast<float>(1.0 - 0.9);
    square = square * 0.999f + gradient * gradient * static_cast<float>(1.0 - 0.999);
    return weight - step_size * mean / (__builtin_sqrtf(square) / root_correction + 1e-8f);
  }
};

}  // namespace FT_ISA
}  // namespace ft
