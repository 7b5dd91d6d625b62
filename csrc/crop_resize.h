// Arguments of crop_resize: bilinear windows of one 8-bit frame.
#pragma once

#include <cstdint>

namespace ft {

struct CropResizeArgs {
  const uint8_t* frame;  // height × width × channels, any strides (in bytes)
  int64_t height, width, channels;
  int64_t stride_y, stride_x, stride_c;
  const double* boxes;  // count × 4: x, y, w, h in px, finite, w and h > 0
  int64_t count;
  const float* gain;  // per channel: a sample v becomes v · gain + offset
  const float* offset;
  bool constant;  // outside is black; else the edge pixels are repeated
  float* out;     // count × channels × out_h × out_w, written whole
  int64_t out_h, out_w;
};

// Index of the first box that is not finite or whose size is not positive, or −1.
inline int64_t first_bad_box(const double* boxes, int64_t count) {
  for (int64_t k = 0; k < count; ++k) {
    const double* b = boxes + 4 * k;
    // x − x is 0 for finite x and NaN otherwise.
    const bool finite = b[0] - b[0] == 0 && b[1] - b[1] == 0 && b[2] - b[2] == 0 && b[3] - b[3] == 0;
    if (!(finite && b[2] > 0 && b[3] > 0)) return k;
  }
  return -1;
}

}  // namespace ft
