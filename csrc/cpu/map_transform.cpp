// The two passes of MapTransform, and its conversions to and from the layout of a model.
#include "cpu/map_transform.h"

#include <algorithm>

#include "cpu/transpose.h"

namespace ft {
namespace FT_ISA {

MapTransform::MapTransform(int64_t height, int64_t width)
    : along_y_(fft_plan(height)),
      along_x_(fft_plan(width)),
      height_(height),
      width_(width),
      half_(height / 2 + 1),
      groups_((half_ + FT_LANES - 1) / FT_LANES),
      padded_((width + 2 * FT_LANES - 1) / (2 * FT_LANES) * (2 * FT_LANES)) {}

MapTransform::Scratch::Scratch(const MapTransform& t, Carver& carver)
    : column(carver.take<float>(t.height_ * kComplex)),
      packed(carver.take<float>(t.height_ * kComplex)),
      rows(carver.take<float>(t.groups_ * FT_LANES * 2 * t.padded_)),
      line(carver.take<float>(t.padded_ * kComplex)),
      passes(carver.take<float>(std::max(t.height_, t.width_) * kComplex)) {}

namespace {

// The vector at p of which `count` lanes exist; the others are `missing`.
FT_INLINE vf load_lanes(const float* p, index count, float missing = 0.0f) {
  if (count >= FT_LANES) return load(p);
  vf v = splat(missing);
  for (index i = 0; i < count; ++i) v[i] = p[i];
  return v;
}

FT_INLINE void store_lanes(float* p, vf v, index count) {
  if (count >= FT_LANES) return store(p, v);
  for (index i = 0; i < count; ++i) p[i] = v[i];
}

#if FT_LANES == 4
#define FT_MIX_LOW 0, 4, 1, 5
#define FT_MIX_HIGH 2, 6, 3, 7
#define FT_EVEN 0, 2, 4, 6
#define FT_ODD 1, 3, 5, 7
#elif FT_LANES == 8
#define FT_MIX_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define FT_MIX_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define FT_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define FT_ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define FT_MIX_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FT_MIX_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define FT_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define FT_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#endif

}  // namespace

// Columns x..x + 2 FT_LANES - 1, windowed, zero past the width.
void MapTransform::columns(const float* map, index stride_row, const float* window, Scratch& s) const {
  for (index x = 0; x < width_; x += 2 * FT_LANES) {
    const index left = width_ - x;
    Rows in = complex_rows(s.column, kComplex, 0);
    if (window == nullptr && left >= 2 * FT_LANES) {
      float* source = const_cast<float*>(map) + x;
      in = {source, source + FT_LANES, stride_row, 0, 0};
    } else {
      for (index y = 0; y < height_; ++y) {
        const float* from = map + y * stride_row + x;
        vf a = load_lanes(from, left), b = load_lanes(from + FT_LANES, left - FT_LANES);
        if (window != nullptr) {
          const float* w = window + y * width_ + x;
          a *= load_lanes(w, left), b *= load_lanes(w + FT_LANES, left - FT_LANES);
        }
        store_complex(s.column + y * kComplex, {a, b});
      }
    }
    fft_forward(along_y_, 1, height_, in, complex_rows(s.packed, kComplex, 0), s.passes);
    split(x, s);
  }
}

// The half spectra of the two real columns that were packed into one complex one.
void MapTransform::split(index x, Scratch& s) const {
  for (index k = 0; k < half_; ++k) {
    const index mirror = k == 0 ? 0 : height_ - k;
    const Complex a = load_complex(s.packed + along_y_.position[static_cast<std::size_t>(k)] * kComplex);
    const Complex b = load_complex(s.packed + along_y_.position[static_cast<std::size_t>(mirror)] * kComplex);
    float* to = s.rows + k * 2 * padded_ + x;
    store(to, 0.5f * (a.re + b.re));
    store(to + FT_LANES, 0.5f * (a.im + b.im));
    store(to + padded_, 0.5f * (a.im - b.im));
    store(to + padded_ + FT_LANES, 0.5f * (b.re - a.re));
  }
}

void MapTransform::forward(const float* map, index stride_row, const float* window, float* spectrum, Scratch& s) const {
  columns(map, stride_row, window, s);
  for (index g = 0; g < groups_; ++g) {
    const float* rows = s.rows + g * FT_LANES * 2 * padded_;
    for (index x = 0; x < width_; x += FT_LANES) {
      transpose(rows + x, 2 * padded_, s.line + x * kComplex, kComplex);
      transpose(rows + padded_ + x, 2 * padded_, s.line + x * kComplex + FT_LANES, kComplex);
    }
    fft_forward(along_x_, 1, width_, complex_rows(s.line, kComplex, 0),
                complex_rows(spectrum + g * group_floats(), kComplex, 0), s.passes);
  }
}

void MapTransform::inverse(const float* spectrum, float* map, Scratch& s) const {
  const float scale = static_cast<float>(1.0 / static_cast<double>(cells()));
  for (index g = 0; g < groups_; ++g) {
    float* rows = s.rows + g * FT_LANES * 2 * padded_;
    float* from = const_cast<float*>(spectrum) + g * group_floats();
    fft_inverse(along_x_, 1, width_, complex_rows(from, kComplex, 0), complex_rows(s.line, kComplex, 0), s.passes);
    // What an earlier map left past the width would reach this one through the packing of columns.
    std::fill(s.line + width_ * kComplex, s.line + padded_ * kComplex, 0.0f);
    for (index x = 0; x < width_; x += FT_LANES) {
      transpose(s.line + x * kComplex, kComplex, rows + x, 2 * padded_);
      transpose(s.line + x * kComplex + FT_LANES, kComplex, rows + padded_ + x, 2 * padded_);
    }
  }
  for (index x = 0; x < width_; x += 2 * FT_LANES) {
    for (index k = 0; k < half_; ++k) {
      const float* from = s.rows + k * 2 * padded_ + x;
      const vf ar = load(from), br = load(from + FT_LANES);
      vf ai = load(from + padded_), bi = load(from + padded_ + FT_LANES);
      const bool alone = k == 0 || 2 * k == height_;  // these rows are real
      if (alone) ai = bi = vf{};
      store_complex(s.packed + along_y_.position[static_cast<std::size_t>(k)] * kComplex, {ar - bi, ai + br});
      if (alone) continue;
      store_complex(s.packed + along_y_.position[static_cast<std::size_t>(height_ - k)] * kComplex, {ar + bi, br - ai});
    }
    fft_inverse(along_y_, 1, height_, complex_rows(s.packed, kComplex, 0), complex_rows(s.column, kComplex, 0),
                s.passes);
    const index left = width_ - x;
    for (index y = 0; y < height_; ++y) {
      const Complex v = load_complex(s.column + y * kComplex);
      store_lanes(map + y * width_ + x, scale * v.re, left);
      if (left > FT_LANES) store_lanes(map + y * width_ + x + FT_LANES, scale * v.im, left - FT_LANES);
    }
  }
}

void MapTransform::write_complex(const float* spectrum, float* out) const {
  for (index g = 0; g < groups_; ++g) {
    const index count = lanes_of(g);
    for (index k = 0; k < width_; ++k) {
      const Complex v = load_complex(at(spectrum, g, k));
      float* to = out + 2 * (k * half_ + g * FT_LANES);
      store_lanes(to, __builtin_shufflevector(v.re, v.im, FT_MIX_LOW), 2 * count);
      if (2 * count > FT_LANES) {
        store_lanes(to + FT_LANES, __builtin_shufflevector(v.re, v.im, FT_MIX_HIGH), 2 * count - FT_LANES);
      }
    }
  }
}

void MapTransform::read_complex(const float* in, float* spectrum) const {
  for (index g = 0; g < groups_; ++g) {
    const index count = lanes_of(g);
    for (index k = 0; k < width_; ++k) {
      const float* from = in + 2 * (k * half_ + g * FT_LANES);
      const vf low = load_lanes(from, 2 * count), high = load_lanes(from + FT_LANES, 2 * count - FT_LANES);
      store_complex(at(spectrum, g, k),
                    {__builtin_shufflevector(low, high, FT_EVEN), __builtin_shufflevector(low, high, FT_ODD)});
    }
  }
}

void MapTransform::write_real(const float* spectrum, float* out) const {
  for (index g = 0; g < groups_; ++g) {
    for (index k = 0; k < width_; ++k) {
      store_lanes(out + k * half_ + g * FT_LANES, load(at(spectrum, g, k)), lanes_of(g));
    }
  }
}

void MapTransform::read_real(const float* in, float* spectrum) const {
  for (index g = 0; g < groups_; ++g) {
    for (index k = 0; k < width_; ++k) {
      store_complex(at(spectrum, g, k), {load_lanes(in + k * half_ + g * FT_LANES, lanes_of(g), 1.0f), vf{}});
    }
  }
}

double MapTransform::energy(const float* spectrum) const {
  double total = 0;
  for (index g = 0; g < groups_; ++g) {
    vf sums = {};
    for (index k = 0; k < width_; ++k) {
      const Complex v = load_complex(spectrum + g * group_floats() + k * kComplex);
      sums += v.re * v.re + v.im * v.im;
    }
    for (index i = 0; i < lanes_of(g); ++i) {
      const index row = g * FT_LANES + i;  // all rows but these two stand for their mirror image, too
      total += (row == 0 || 2 * row == height_ ? 1.0 : 2.0) * static_cast<double>(sums[i]);
    }
  }
  return total / static_cast<double>(cells());
}

}  // namespace FT_ISA
}  // namespace ft
