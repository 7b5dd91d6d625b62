// Arguments of lrn: local response normalisation across channels, alone or between a ReLU and a max-pool.
#pragma once

#include <cstdint>

namespace ft {

struct LrnArgs {
  const float* x;  // count × channels × height × width, or count × height × width × channels
  float* out;      // the same order; height and width are out_h and out_w where there is a pool
  int64_t count, channels, height, width;
  bool channels_last;
  int64_t before, after;  // channels of the window before and behind its own
  float k, alpha, beta;   // x · (k + alpha · Σ x²)^−beta; k > 0, alpha ≥ 0
  int64_t pool, stride;   // pool 0: normalisation alone, no ReLU; else stride ≥ 1
  int64_t out_h, out_w;   // windows that reach over the edge are cut
};

}  // namespace ft
