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
  bool constant;   // outside is black; else the edge pixels are repeated
  bool antialias;  // windows that shrink the frame see it averaged over blocks of `shrink_of` px
  float* out;      // count × channels × out_h × out_w, written whole
  int64_t out_h, out_w;
};

constexpr int64_t kLargestShrink = 256;  // px: the sums over a block's columns fit 16 bits

// Side of the blocks that the frame is averaged over for a window, px: 1 where it is shrunk less than twice.
inline int64_t shrink_of(const CropResizeArgs& a, const double* box) {
  if (!a.antialias) return 1;
  const double across = box[2] / static_cast<double>(a.out_w), down = box[3] / static_cast<double>(a.out_h);
  const double least = across < down ? across : down;
  int64_t most = a.height < a.width ? a.height : a.width;
  if (most > kLargestShrink) most = kLargestShrink;
  return least < 2.0 ? 1 : least >= static_cast<double>(most) ? most : static_cast<int64_t>(least);
}

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
