// Conversions of MapTransform's spectra to and from the layout of a model, and their energy.
#include "cpu/map_transform.h"

namespace ft {
namespace FT_ISA {

// Interleaved complex numbers <-> real and imaginary parts, within the quarters of a vector.
#if FT_LANES == 4
#define FT_MIX_LOW 0, 4, 1, 5
#define FT_MIX_HIGH 2, 6, 3, 7
#define FT_EVEN 0, 2, 4, 6
#define FT_ODD 1, 3, 5, 7
#elif FT_LANES == 8
#define FT_MIX_LOW 0, 8, 1, 9, 4, 12, 5, 13
#define FT_MIX_HIGH 2, 10, 3, 11, 6, 14, 7, 15
#define FT_EVEN 0, 2, 8, 10, 4, 6, 12, 14
#define FT_ODD 1, 3, 9, 11, 5, 7, 13, 15
#else
#define FT_MIX_LOW 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define FT_MIX_HIGH 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define FT_EVEN 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30
#define FT_ODD 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31
#endif

namespace {

// Where column frequency `at` of the tail is, real part first, imaginary part FT_LANES further.
index in_tail(index at) { return at / FT_LANES * kComplex + at % FT_LANES; }

}  // namespace

void MapTransform::write_complex(index part, const float* from, float* out) const {
  if (part == groups_) {
    out += 2 * (half_ - 1);
    for (index k = 0; k < width_; ++k, out += 2 * half_) {
      const float* at = from + in_tail(k);
      out[0] = at[0], out[1] = at[FT_LANES];
    }
    return;
  }
  out += 2 * part * FT_LANES;
  if (is_whole(part)) {
    for (index k = 0; k < width_; ++k, out += 2 * half_) {
      const Complex v = load_complex(from + k * kComplex);
      store(out, __builtin_shufflevector(v.re, v.im, FT_MIX_LOW));
      store(out + FT_LANES, __builtin_shufflevector(v.re, v.im, FT_MIX_HIGH));
    }
    return;
  }
  for (index k = 0; k < width_; ++k, out += 2 * half_) {
    const float* at = from + k * kComplex;
    for (index i = 0; i < FT_LANES; ++i) {
      const index row = frequency_of_lane(i);
      if (part * FT_LANES + row < half_) out[2 * row] = at[i], out[2 * row + 1] = at[FT_LANES + i];
    }
  }
}

void MapTransform::read_complex(index part, const float* in, index ahead, float* to) const {
  if (part == groups_) {
    in += 2 * (half_ - 1);
    for (index k = 0; k < width_; ++k, in += 2 * half_) {
      float* at = to + in_tail(k);
      at[0] = in[0], at[FT_LANES] = in[1];
    }
    return;
  }
  in += 2 * part * FT_LANES;
  if (is_whole(part)) {
    for (index k = 0; k < width_; ++k, in += 2 * half_) {
      __builtin_prefetch(in + ahead, 0, 2);
      const vf low = load(in), high = load(in + FT_LANES);
      store_complex(to + k * kComplex,
                    {__builtin_shufflevector(low, high, FT_EVEN), __builtin_shufflevector(low, high, FT_ODD)});
    }
    return;
  }
  for (index k = 0; k < width_; ++k, in += 2 * half_) {
    float* at = to + k * kComplex;
    for (index i = 0; i < FT_LANES; ++i) {
      const index row = frequency_of_lane(i);
      const bool known = part * FT_LANES + row < half_;
      at[i] = known ? in[2 * row] : 0.0f;
      at[FT_LANES + i] = known ? in[2 * row + 1] : 0.0f;
    }
  }
}

void MapTransform::write_real(index part, const float* from, float* out) const {
  for (index k = 0; k < width_; ++k, out += half_) {
    if (part == groups_) {
      out[half_ - 1] = from[in_tail(k)];
      continue;
    }
    for (index i = 0; i < FT_LANES; ++i) {
      const index row = part * FT_LANES + frequency_of_lane(i);
      if (row < half_) out[row] = from[k * kComplex + i];
    }
  }
}

void MapTransform::read_real(index part, const float* in, float* to) const {
  for (index i = 0; i < part_floats(part); i += kComplex) store_complex(to + i, {splat(1.0f), vf{}});
  for (index k = 0; k < width_; ++k, in += half_) {
    if (part == groups_) {
      to[in_tail(k)] = in[half_ - 1];
      continue;
    }
    for (index i = 0; i < FT_LANES; ++i) {
      const index row = part * FT_LANES + frequency_of_lane(i);
      if (row < half_) to[k * kComplex + i] = in[row];
    }
  }
}

double MapTransform::energy(index part, const float* from) const {
  vf re{}, im{};
  for (index i = 0; i < part_floats(part); i += kComplex) {
    const Complex v = load_complex(from + i);
    re += v.re * v.re;
    im += v.im * v.im;
  }
  double total = 0;
  for (index i = 0; i < FT_LANES; ++i) {
    const index row = part == groups_ ? half_ - 1 : part * FT_LANES + frequency_of_lane(i);
    if (row >= half_) continue;
    const double weight = row == 0 || 2 * row == height_ ? 1.0 : 2.0;  // the others stand for their mirror image, too
    total += weight * (static_cast<double>(re[i]) + static_cast<double>(im[i]));
  }
  return total / static_cast<double>(cells());
}

}  // namespace FT_ISA
}  // namespace ft
