// The two passes of MapTransform.
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
      padded_((width + 2 * FT_LANES - 1) / (2 * FT_LANES) * (2 * FT_LANES)) {
  const bool with_tail = height % (2 * FT_LANES) == 0;
  groups_ = with_tail ? height / (2 * FT_LANES) : (half_ + FT_LANES - 1) / FT_LANES;
  tail_floats_ = with_tail ? (width + FT_LANES - 1) / FT_LANES * kComplex : 0;
}

MapTransform::Scratch::Scratch(const MapTransform& t, Carver& carver)
    : column(carver.take<float>(t.height_ * kComplex)),
      packed(carver.take<float>((t.height_ + 2 * FT_LANES) * kComplex) + FT_LANES * kComplex),
      lines(carver.take<float>(t.groups_ * t.padded_ * kComplex)),
      group(carver.take<float>(t.width_ * kComplex)),
      tail(carver.take<float>(t.tail_floats_)),
      passes(carver.take<float>(std::max(t.height_, t.width_) * kComplex)) {}

void MapTransform::prepare_window(const float* window, float* prepared) const {
  for (index x = 0; x < width_; x += kComplex) {
    const index count = std::min<index>(width_ - x, kComplex);
    for (index y = 0; y < height_; ++y, prepared += kComplex) {
      const float* from = window + y * width_ + x;
      for (index i = 0; i < kComplex; ++i) prepared[i] = i < count ? 0.5f * from[i] : 0.0f;
    }
  }
}

// All strips of 2 FT_LANES columns, zero past the width.
void MapTransform::columns(const float* map, index stride_row, const float* window, Scratch& s) const {
  for (index x = 0; x < width_; x += 2 * FT_LANES) {
    const float* from = map + x;
    index row = stride_row;
    if (x + 2 * FT_LANES > width_) {
      for (index y = 0; y < height_; ++y) {
        float* to = s.column + y * 2 * FT_LANES;
        std::fill(std::copy(from + y * row, from + y * row + width_ - x, to), to + 2 * FT_LANES, 0.0f);
      }
      from = s.column, row = 2 * FT_LANES;
    }
    fft_ordered_real(along_y_, from, row, window == nullptr ? nullptr : window + x * height_, s.packed, s.passes);
    split(x, s);
  }
}

// The half spectra of the two vectors of real columns that were packed into one complex vector, turned into rows:
// cells side by side become row frequencies side by side. The factor 1/2 is in the columns already. Lanes past the
// last row frequency, which nobody reads, come from the padding around `packed`.
void MapTransform::split(index x, Scratch& s) const {
  store_complex(s.packed + height_ * kComplex, load_complex(s.packed));  // the mirror image of frequency 0
  for (index g = 0; g < groups_; ++g) {
    const float* near = s.packed + g * FT_LANES * kComplex;
    const float* far = s.packed + (height_ - g * FT_LANES) * kComplex;
    float* to = s.lines + (g * padded_ + x) * kComplex;
    vf sums[2][FT_LANES], differences[2][FT_LANES];
    for (int part = 0; part < 2; ++part, near += FT_LANES, far += FT_LANES) {
      for (index i = 0; i < FT_LANES; ++i) {
        const index k = frequency_of_lane(i);
        const vf a = load(near + k * kComplex), b = load(far - k * kComplex);
        sums[part][i] = a + b;
        differences[part][i] = part == 0 ? b - a : a - b;
      }
    }
    if (g == 0 && tail_floats_ > 0) {
      const Complex middle = load_complex(s.packed + height_ / 2 * kComplex);
      differences[1][0] = 2.0f * middle.re, differences[0][0] = 2.0f * middle.im;
    }
    transpose(sums[0], to, kComplex);
    transpose(differences[1], to + FT_LANES, kComplex);
    transpose(sums[1], to + FT_LANES * kComplex, kComplex);
    transpose(differences[0], to + FT_LANES * kComplex + FT_LANES, kComplex);
  }
}

void MapTransform::rows_of(index g, float* group, float* tail, Scratch& s) const {
  fft_ordered(along_x_, s.lines + g * padded_ * kComplex, group);
  if (g == 0 && tail_floats_ > 0) separate(group, tail);
}

// The spectra of two real rows, packed as real and imaginary parts of lane 0: the first stays there.
void MapTransform::separate(float* group, float* tail) const {
  const auto one = [&](float* p, float* q, float* to, float* mirrored) __attribute__((always_inline)) {
    const float p_re = p[0], p_im = p[FT_LANES], q_re = q[0], q_im = q[FT_LANES];
    const float first = 0.5f * (p_im - q_im), second = 0.5f * (q_re - p_re);
    p[0] = q[0] = 0.5f * (p_re + q_re);
    p[FT_LANES] = first, q[FT_LANES] = -first;
    *to = *mirrored = 0.5f * (p_im + q_im);
    to[FT_LANES] = second, mirrored[FT_LANES] = -second;
  };
  one(group, group, tail, tail);
  float *p = group, *q = group + width_ * kComplex;
  for (index k = 1, j = width_ - 1; k <= j; ++k, --j) {
    p += kComplex, q -= kComplex;
    one(p, q, tail + k / FT_LANES * kComplex + k % FT_LANES, tail + j / FT_LANES * kComplex + j % FT_LANES);
  }
}

// A group, joined again with the tail if there is one, in the order that the inverse transform takes.
void MapTransform::scatter(const float* group, const float* tail, float* scattered) const {
  for (index k = 0; k < width_; ++k) {
    float* to = scattered + along_x_.position[static_cast<std::size_t>(k)] * kComplex;
    store_complex(to, load_complex(group + k * kComplex));
    if (tail == nullptr) continue;
    const float* second = tail + k / FT_LANES * kComplex + k % FT_LANES;
    to[0] -= second[FT_LANES];
    to[FT_LANES] += second[0];
  }
}

void MapTransform::forward(const float* map, index stride_row, const float* window, float* spectrum, Scratch& s) const {
  columns(map, stride_row, window, s);
  for (index g = 0; g < groups_; ++g) {
    rows_of(g, spectrum + g * group_floats(), spectrum + groups_ * group_floats(), s);
  }
}

// The packed spectra of the columns x..x + 2 FT_LANES - 1 from their rows.
void MapTransform::merge(index x, Scratch& s) const {
  const auto at = [&](index k) { return s.packed + along_y_.position[static_cast<std::size_t>(k)] * kComplex; };
  for (index g = 0; g < groups_; ++g) {
    alignas(64) float tile[4][FT_LANES * FT_LANES];
    const float* from = s.lines + (g * padded_ + x) * kComplex;
    for (index i = 0; i < 4; ++i) {
      transpose(from + i / 2 * FT_LANES * kComplex + i % 2 * FT_LANES, kComplex, tile[i], FT_LANES);
    }
    for (index i = 0; i < FT_LANES; ++i) {
      const index k = g * FT_LANES + frequency_of_lane(i);
      if (k >= half_) continue;
      const vf ar = load(tile[0] + i * FT_LANES), ai = load(tile[1] + i * FT_LANES);
      const vf br = load(tile[2] + i * FT_LANES), bi = load(tile[3] + i * FT_LANES);
      if (k == 0 || 2 * k == height_) {  // these rows are real
        store_complex(at(k), {ar, br});
        if (k == 0 && tail_floats_ > 0) store_complex(at(height_ / 2), {ai, bi});
        continue;
      }
      store_complex(at(k), {ar - bi, ai + br});
      store_complex(at(height_ - k), {ar + bi, br - ai});
    }
  }
}

void MapTransform::inverse(const float* spectrum, float* map, Scratch& s) const {
  const float scale = static_cast<float>(1.0 / static_cast<double>(cells()));
  for (index g = 0; g < groups_; ++g) {
    float* line = s.lines + g * padded_ * kComplex;
    const float* tail = g == 0 && tail_floats_ > 0 ? spectrum + groups_ * group_floats() : nullptr;
    scatter(spectrum + g * group_floats(), tail, s.group);
    fft_inverse(along_x_, 1, width_, complex_rows(s.group, kComplex, 0), complex_rows(line, kComplex, 0), s.passes);
    // What an earlier map left past the width would reach this one through the packing of columns.
    std::fill(line + width_ * kComplex, line + padded_ * kComplex, 0.0f);
  }
  for (index x = 0; x < width_; x += 2 * FT_LANES) {
    merge(x, s);
    fft_inverse(along_y_, 1, height_, complex_rows(s.packed, kComplex, 0), complex_rows(s.column, kComplex, 0),
                s.passes);
    const index left = std::min<index>(width_ - x, 2 * FT_LANES);
    for (index y = 0; y < height_; ++y) {
      float cells[kComplex];
      const Complex v = load_complex(s.column + y * kComplex);
      store_complex(left == kComplex ? map + y * width_ + x : cells, {scale * v.re, scale * v.im});
      if (left < kComplex) std::copy(cells, cells + left, map + y * width_ + x);
    }
  }
}

}  // namespace FT_ISA
}  // namespace ft
