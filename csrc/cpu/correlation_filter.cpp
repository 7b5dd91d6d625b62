// Correlation filters: training and detection, channel by channel, the spectra of one channel in cache at a time.
//
// Threads share the targets, or the channels of one target; there each sums into memory of its own, and the parts
// are added in order, so that a result does not depend on how threads were scheduled.
#include "correlation_filter.h"

#include <algorithm>

#include "cpu/map_transform.h"
#include "maths.h"

namespace ft {
namespace FT_ISA {
namespace {

// What one thread works with; `sum` holds one spectrum per scale, `energy` one number per scale and the model's.
struct Work {
  MapTransform::Scratch passes;
  float *spectrum, *model, *map, *sum;
  double* energy;
  Work(const MapTransform& t, int64_t scales, Carver& carver)
      : passes(t, carver),
        spectrum(carver.take<float>(t.floats())),
        model(carver.take<float>(t.floats())),
        map(carver.take<float>(t.cells())),
        sum(carver.take<float>(t.floats() * scales)),
        energy(carver.take<double>(scales + 1)) {}
};

// A spectrum beside those of the channels: of the label, or the coefficients.
struct Spectrum {
  float* floats;
  Spectrum(const MapTransform& t, Carver& carver) : floats(carver.take<float>(t.floats())) {}
};

const float* map_of(const CfMaps& m, index target, index scale, index channel) {
  return m.features + target * m.stride_target + scale * m.stride_scale + channel * m.stride_channel;
}

index row_of(const CfTrainArgs& a, index target) { return a.rows == nullptr ? target : a.rows[target]; }

float one_over_size(const CfMaps& m) {
  return static_cast<float>(1.0 / (static_cast<double>(m.channels) * static_cast<double>(m.height * m.width)));
}

constexpr int64_t kParallelCells = 1 << 17;  // below, waking a team costs more than it gives

// Threads over targets, and over the channels of each.
struct Team {
  int targets, channels;
  explicit Team(const CfMaps& m) : targets(1), channels(1) {
    const int64_t of_target = m.scales * m.channels * m.height * m.width;
    if (m.targets > 1 && m.targets * of_target >= kParallelCells) {
      targets = static_cast<int>(std::min<int64_t>(max_threads(), m.targets));
    } else if (of_target >= kParallelCells) {
      channels = static_cast<int>(std::min<int64_t>(max_threads(), m.channels));
    }
  }
  int total() const { return targets * channels; }
};

// The window as the transforms want it, in memory of its own; null without one.
struct Window {
  float* prepared;
  Window(const CfMaps& m, const MapTransform& t, Carver& carver)
      : prepared(m.window == nullptr ? nullptr : carver.take<float>(t.window_floats())) {}
};

const float* prepare(const CfMaps& m, const MapTransform& t, PerThread<Window, false>& memory) {
  const Window w = memory.of(0, m, t);
  if (w.prepared != nullptr) t.prepare_window(m.window, w.prepared);
  return w.prepared;
}

// While a spectrum is worked on, the map to be transformed next is fetched from memory, `count` cells at a time.
FT_INLINE void fetch(const float* next, index count) {
  constexpr index kLine = 16;
  for (index i = 0; i < count; i += kLine) __builtin_prefetch(next + i, 0, 2);
}

void clear(const Work& w, index floats, int64_t scales) {
  std::fill(w.sum, w.sum + scales * floats, 0.0f);
  std::fill(w.energy, w.energy + scales + 1, 0.0);
}

void add_into(float* sum, const float* part, index floats) {
  for (index i = 0; i < floats; i += FT_LANES) store(sum + i, load(sum + i) + load(part + i));
}

// sum += |x|^2, one vector per complex element; then x <- scale conj(y) x where there is a label spectrum y.
void square(float* x, const float* y, float scale, float* sum, index floats, const float* next) {
  for (index i = 0; i < floats; i += kComplex) {
    fetch(next + i, kComplex);
    const Complex v = load_complex(x + i);
    store(sum + i / 2, load(sum + i / 2) + v.re * v.re + v.im * v.im);
    if (y != nullptr) {
      const Complex label = load_complex(y + i);
      store_complex(x + i, times_conj({scale * v.re, scale * v.im}, label));
    }
  }
}

// sum += conj(a) z
void correlate(const float* a, const float* z, float* sum, index floats, const float* next) {
  for (index i = 0; i < floats; i += kComplex) {
    fetch(next + i, kComplex);
    const Complex p = load_complex(a + i), q = load_complex(z + i), s = load_complex(sum + i);
    store_complex(sum + i, {s.re + q.re * p.re + q.im * p.im, s.im + q.im * p.re - q.re * p.im});
  }
}

// The Gaussian kernel of every shift, in place: exp(-max(0, energy - 2 products) / (sigma^2 C H W)).
void gaussian(float* map, index cells, double energy, float sigma, index channels) {
  const double width = static_cast<double>(sigma) * sigma * static_cast<double>(channels) * static_cast<double>(cells);
  const float rate = static_cast<float>(-1.0 / width), total = static_cast<float>(energy);
  for (index i = 0; i < cells; ++i) {
    const float distance = total - 2.0f * map[i];
    map[i] = fast_exp(rate * (distance < 0.0f ? 0.0f : distance));
  }
}

// Linear: κ sum + λ. Gaussian: y / (k + λ), k the spectrum of the kernel's autocorrelation.
void finish_training(const CfTrainArgs& a, const MapTransform& t, const float* label, Work& w, float* out) {
  const index floats = t.floats(), group = t.group_floats();
  const float scale = a.gaussian ? 1.0f : one_over_size(a.maps), offset = a.gaussian ? 0.0f : a.lam;
  for (index i = 0; i < floats; i += kComplex) {
    store_complex(w.spectrum + i, {scale * load(w.sum + i / 2) + splat(offset), vf{}});
  }
  if (!a.gaussian) {
    for (index p = 0; p < t.parts(); ++p) t.write_real(p, w.spectrum + p * group, out);
    return;
  }
  t.inverse(w.spectrum, w.map, w.passes);
  gaussian(w.map, t.cells(), 2.0 * static_cast<double>(w.map[0]), a.sigma, a.maps.channels);
  t.forward(w.map, t.width(), nullptr, w.spectrum, w.passes);
  for (index i = 0; i < floats; i += kComplex) {
    const Complex k = load_complex(w.spectrum + i), y = load_complex(label + i);
    const vf re = k.re + a.lam, norm = re * re + k.im * k.im;
    const Complex alpha = times_conj(y, {re, k.im});
    store_complex(w.spectrum + i, {alpha.re / norm, alpha.im / norm});
  }
  for (index p = 0; p < t.parts(); ++p) t.write_complex(p, w.spectrum + p * group, out);
}

// old <- old + rate (fresh - old); with a rate of 1 what was there is not read.
void blend(const float* fresh, float rate, index count, float* old) {
  if (rate == 1.0f) {
    std::copy(fresh, fresh + count, old);
    return;
  }
#pragma omp simd
  for (index i = 0; i < count; ++i) old[i] += rate * (fresh[i] - old[i]);
}

// One response: linear sum / B; Gaussian the kernel of every shift, filtered with the dual variables.
void finish_detection(const CfDetectArgs& a, const MapTransform& t, const float* coefficients, float* sum,
                      double energy, Work& w, float* out) {
  const index floats = t.floats();
  if (!a.gaussian) {
    for (index i = 0; i < floats; i += kComplex) {
      const Complex s = load_complex(sum + i);
      const vf b = load(coefficients + i);
      store_complex(sum + i, {s.re / b, s.im / b});
    }
    return t.inverse(sum, out, w.passes);
  }
  t.inverse(sum, w.map, w.passes);
  gaussian(w.map, t.cells(), energy, a.sigma, a.maps.channels);
  t.forward(w.map, t.width(), nullptr, w.spectrum, w.passes);
  for (index i = 0; i < floats; i += kComplex) {
    store_complex(w.spectrum + i, times(load_complex(w.spectrum + i), load_complex(coefficients + i)));
  }
  t.inverse(w.spectrum, out, w.passes);
}

void train_channel(const CfTrainArgs& a, const MapTransform& t, index target, index channel, const float* window,
                   const float* label, Work& w) {
  const CfMaps& m = a.maps;
  const float* next = map_of(m, target, 0, std::min<index>(channel + 1, m.channels - 1));
  const index floats = 2 * m.width * t.half();
  float* const model = a.model + (row_of(a, target) * m.channels + channel) * floats;
  float* const out = a.rate == 1.0f ? model : w.model;
  const float scale = one_over_size(m);
  t.forward_parts(map_of(m, target, 0, channel), m.stride_row, window, w.passes, [&](index part, float* bins) {
    const index from = part * t.group_floats();
    square(bins, a.gaussian ? nullptr : label + from, scale, w.sum + from / 2, t.part_floats(part), next + from);
    t.write_complex(part, bins, out);
  });
  if (out != model) blend(out, a.rate, floats, model);
}

void detect_channel(const CfDetectArgs& a, const MapTransform& t, index target, index channel, const float* window,
                    Work& w) {
  const CfMaps& m = a.maps;
  const index model_floats = 2 * m.width * t.half();
  const bool last = channel + 1 == m.channels;
  const float* model = a.model + (target * m.channels + channel) * model_floats;
  for (index s = 0; s < m.scales; ++s) {
    const float* next = s + 1 < m.scales ? map_of(m, target, s + 1, channel)
                        : last           ? map_of(m, target, s, channel)
                                         : map_of(m, target, 0, channel + 1);
    float* sum = w.sum + s * t.floats();
    t.forward_parts(map_of(m, target, s, channel), m.stride_row, window, w.passes, [&](index part, const float* bins) {
      const index from = part * t.group_floats();
      float* of_model = w.model + from;
      if (s == 0) {
        t.read_complex(part, model, last ? 0 : model_floats, of_model);
        if (a.gaussian) w.energy[m.scales] += t.energy(part, of_model);
      }
      correlate(of_model, bins, sum + from, t.part_floats(part), next + from);
      if (a.gaussian) w.energy[s] += t.energy(part, bins);
    });
  }
}

}  // namespace

void cf_train(const CfTrainArgs& a) {
  const CfMaps& m = a.maps;
  const MapTransform t(m.height, m.width);
  const index floats = t.floats(), bins = m.width * t.half() * (a.gaussian ? 2 : 1);
  const Team team(m);
  PerThread<Work> works(team.total(), t, int64_t{1});
  PerThread<Spectrum> labels(team.targets, t);
  PerThread<Window, false> window_memory(1, m, t);
  const float* window = prepare(m, t, window_memory);
#pragma omp parallel num_threads(team.targets)
  {
    const int first = thread_index() * team.channels;
    float* const of_label = labels.of(thread_index(), t).floats;
    Work sum = works.of(first, t, int64_t{1});
    const float* label = nullptr;
#pragma omp for schedule(static)
    for (index target = 0; target < m.targets; ++target) {
      if (label == nullptr || a.stride_label != 0) {
        label = a.label + target * a.stride_label;
        t.forward(label, m.width, nullptr, of_label, sum.passes);
      }
      for (int i = 0; i < team.channels; ++i) clear(works.of(first + i, t, int64_t{1}), floats, 1);
#pragma omp parallel num_threads(team.channels)
      {
        Work w = works.of(first + (team.channels > 1 ? thread_index() : 0), t, int64_t{1});
#pragma omp for schedule(static)
        for (index c = 0; c < m.channels; ++c) train_channel(a, t, target, c, window, of_label, w);
      }
      for (int i = 1; i < team.channels; ++i) add_into(sum.sum, works.of(first + i, t, int64_t{1}).sum, floats);
      finish_training(a, t, of_label, sum, sum.model);
      blend(sum.model, a.rate, bins, a.coefficients + row_of(a, target) * bins);
    }
  }
}

void cf_detect(const CfDetectArgs& a) {
  const CfMaps& m = a.maps;
  const MapTransform t(m.height, m.width);
  const index floats = t.floats(), bins = m.width * t.half();
  const Team team(m);
  PerThread<Work> works(team.total(), t, m.scales);
  PerThread<Spectrum> shared(team.targets, t);
  PerThread<Window, false> window_memory(1, m, t);
  const float* window = prepare(m, t, window_memory);
#pragma omp parallel for schedule(static) num_threads(team.targets)
  for (index target = 0; target < m.targets; ++target) {
    const int own = thread_index(), first = own * team.channels;
    float* coefficients = shared.of(own, t).floats;
    for (index p = 0; p < t.parts(); ++p) {
      float* to = coefficients + p * t.group_floats();
      if (a.gaussian) {
        t.read_complex(p, a.coefficients + 2 * target * bins, 0, to);
      } else {
        t.read_real(p, a.coefficients + target * bins, to);
      }
    }
    const auto work_of = [&](int i) { return works.of(first + (team.channels > 1 ? i : 0), t, m.scales); };
    for (int i = 0; i < team.channels; ++i) clear(work_of(i), floats, m.scales);
#pragma omp parallel num_threads(team.channels)
    {
      Work w = work_of(thread_index());
#pragma omp for schedule(static)
      for (index c = 0; c < m.channels; ++c) detect_channel(a, t, target, c, window, w);
    }
    Work sum = work_of(0);
    for (int i = 1; i < team.channels; ++i) {
      const Work other = work_of(i);
      add_into(sum.sum, other.sum, m.scales * floats);
      for (index s = 0; s <= m.scales; ++s) sum.energy[s] += other.energy[s];
    }
#pragma omp parallel for schedule(static) num_threads(team.channels)
    for (index s = 0; s < m.scales; ++s) {
      Work w = work_of(thread_index());
      finish_detection(a, t, coefficients, sum.sum + s * floats, sum.energy[s] + sum.energy[m.scales], w,
                       a.response + (target * m.scales + s) * t.cells());
    }
  }
}

void cf_update(const CfUpdateArgs& a) {
#pragma omp parallel for simd schedule(static) if (a.count > 65536)
  for (int64_t i = 0; i < a.count; ++i) a.out[i] = a.a[i] + a.rate * (a.b[i] - a.a[i]);
}

}  // namespace FT_ISA
}  // namespace ft
