// Part of an 8-bit frame, averaged over blocks.
#pragma once

#include <cstdint>

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

// The blocks, of `count` along an axis, that [low, high) needs, and one more each side for the interpolation.
struct Span {
  int64_t first, last;
  Span(double low, double high, int64_t count) {
    const auto within = [](double v, int64_t from, int64_t to) {
      return v < static_cast<double>(from) ? from : v > static_cast<double>(to) ? to : static_cast<int64_t>(v);
    };
    first = within(__builtin_floor(low) - 1.0, 0, count - 1);
    last = within(__builtin_ceil(high) + 1.0, first + 1, count);
  }
};

struct FrameBlocks {
  const uint8_t* frame;  // any strides (in bytes); channels 1 or 3
  int64_t stride_y, stride_x, stride_c, channels;
  int64_t side;                      // of a block, px; at most 256
  int64_t top, bottom, left, right;  // blocks of the frame, last ones exclusive
  uint8_t* out;                      // (bottom − top) × (right − left) × channels: means, halves rounded up
};

void average_blocks(const FrameBlocks& a);

}  // namespace FT_ISA
}  // namespace ft
