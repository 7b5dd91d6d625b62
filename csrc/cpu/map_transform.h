// Real 2-D FFT of one channel, with neighbouring cells side by side in a vector.
//
// Columns are transformed first, two vectors of them packed into one complex transform, then the rows of the
// half spectrum, a vector of them at a time. One channel is small enough for the nearest caches, and a sum over
// channels is a sum over calls: nothing crosses the lanes of a vector but the transposition between the passes.
#pragma once

#include "cpu/fft.h"
#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {

using index = std::ptrdiff_t;

// Spectrum of one map: vectors of row frequencies ("groups"), and in each the column frequencies in the order
// of `FftPlan::position`; complex elements of kComplex floats. Lanes past the last row frequency hold zeros.
class MapTransform {
 public:
  struct Scratch {
    float *column, *packed, *rows, *line, *passes;
    Scratch(const MapTransform& t, Carver& carver);
  };

  MapTransform(int64_t height, int64_t width);

  index height() const { return height_; }
  index width() const { return width_; }
  index half() const { return half_; }      // row frequencies
  index groups() const { return groups_; }  // vectors of them
  index group_floats() const { return width_ * kComplex; }
  index floats() const { return groups_ * group_floats(); }
  index cells() const { return height_ * width_; }

  // map (H, W) times window (or null) -> spectrum.
  void forward(const float* map, index stride_row, const float* window, float* spectrum, Scratch& s) const;
  // spectrum -> map (H, W) contiguous, scaled by 1 / (H W).
  void inverse(const float* spectrum, float* map, Scratch& s) const;

  // Between a spectrum and the layout of the model, (W, H / 2 + 1) with interleaved complex numbers.
  void write_complex(const float* spectrum, float* out) const;
  void read_complex(const float* in, float* spectrum) const;
  // The same for a real array: only the real parts; lanes past the last row frequency are read as 1, for divisors.
  void write_real(const float* spectrum, float* out) const;
  void read_real(const float* in, float* spectrum) const;

  // Sum of squares of the map that the spectrum belongs to.
  double energy(const float* spectrum) const;

 private:
  void columns(const float* map, index stride_row, const float* window, Scratch& s) const;
  void split(index x, Scratch& s) const;
  index lanes_of(index group) const {
    return half_ - group * FT_LANES < FT_LANES ? half_ - group * FT_LANES : FT_LANES;
  }
  const float* at(const float* spectrum, index group, index k) const {
    return spectrum + group * group_floats() + along_x_.position[static_cast<std::size_t>(k)] * kComplex;
  }
  float* at(float* spectrum, index group, index k) const {
    return spectrum + group * group_floats() + along_x_.position[static_cast<std::size_t>(k)] * kComplex;
  }

  const FftPlan& along_y_;
  const FftPlan& along_x_;
  index height_, width_, half_, groups_;
  index padded_;  // width in whole pairs of vectors
};

}  // namespace FT_ISA
}  // namespace ft
