// Ridge regression: factor, solves, and the adjoint that reuses the factor.
#include "ridge_solve.h"

#include "cpu/gram_cholesky.h"
#include "cpu/ridge_products.h"

namespace ft {
namespace FT_ISA {

namespace {

// One system of a batch, with its factor.
struct System {
  const float* X;
  int64_t n, d;
  double lam;
  const float* L;

  bool dual() const { return d > n; }
  int64_t size() const { return d > n ? n : d; }
};

// Vectors of one solve, computed in T: float, or double for refinement.
template <class T>
struct Vectors {
  Vectors(int64_t n, int64_t d, Carver& carver)
      : samples(carver.take<T>(n)),
        features(carver.take<T>(d)),
        right(carver.take<T>(n < d ? n : d)),
        found(carver.take<T>(n < d ? n : d)),
        error(carver.take<T>(n < d ? n : d)),
        correction(carver.take<float>(n < d ? n : d)) {}
  T *samples, *features, *right, *found, *error;
  float* correction;
};

template <class T>
void add_solution(const System& s, const T* right, float* memory, T* found) {
  const int64_t k = s.size();
  for (int64_t i = 0; i < k; ++i) memory[i] = static_cast<float>(right[i]);
  solve_cholesky(s.L, k, memory);
  for (int64_t i = 0; i < k; ++i) found[i] += static_cast<T>(memory[i]);
}

// found ← (G + λI)⁻¹ right, G = XXᵀ (dual) or XᵀX; in double with one step of refinement.
template <class T>
void solve_system(const System& s, Vectors<T>& at) {
  const int64_t k = s.size();
  std::memset(at.found, 0, static_cast<size_t>(k) * sizeof(T));
  add_solution(s, at.right, at.correction, at.found);
  if (sizeof(T) == sizeof(float)) return;
  if (s.dual()) {
    times_transposed(s.X, s.n, s.d, at.found, at.features);
    times(s.X, s.n, s.d, at.features, at.error);
  } else {
    times(s.X, s.n, s.d, at.found, at.samples);
    times_transposed(s.X, s.n, s.d, at.samples, at.error);
  }
  const T lam = static_cast<T>(s.lam);
  for (int64_t i = 0; i < k; ++i) at.error[i] = at.right[i] - at.error[i] - lam * at.found[i];
  add_solution(s, at.error, at.correction, at.found);
}

// Column c of a (rows, m) matrix, read and written in T.
template <class T>
void read_column(const float* matrix, int64_t rows, int64_t m, int64_t c, T* out) {
  for (int64_t i = 0; i < rows; ++i) out[i] = static_cast<T>(matrix[i * m + c]);
}

// Returns whether every value is finite.
template <class T>
bool write_column(const T* values, int64_t rows, int64_t m, int64_t c, float* matrix) {
  bool finite = true;
  for (int64_t i = 0; i < rows; ++i) {
    const float value = static_cast<float>(values[i]);
    matrix[i * m + c] = value;
    finite &= value - value == 0.0f;
  }
  return finite;
}

// w and y − Xw of one column of y; false where w is not finite.
template <class T>
bool solve_column(const System& s, const float* y, int64_t m, int64_t c, Vectors<T>& at, float* w, float* residual) {
  const T lam = static_cast<T>(s.lam);
  if (s.dual()) {
    read_column(y, s.n, m, c, at.right);
    solve_system(s, at);
    times_transposed(s.X, s.n, s.d, at.found, at.features);
    if (residual != nullptr) {
      for (int64_t i = 0; i < s.n; ++i) at.samples[i] = lam * at.found[i];  // y − XXᵀα = λα
      write_column(at.samples, s.n, m, c, residual);
    }
    return write_column(at.features, s.d, m, c, w);
  }
  read_column(y, s.n, m, c, at.samples);
  times_transposed(s.X, s.n, s.d, at.samples, at.right);
  solve_system(s, at);
  if (residual != nullptr) {
    times(s.X, s.n, s.d, at.found, at.samples);
    for (int64_t i = 0; i < s.n; ++i) at.samples[i] = static_cast<T>(y[i * m + c]) - at.samples[i];
    write_column(at.samples, s.n, m, c, residual);
  }
  return write_column(at.found, s.d, m, c, w);
}

// v = (XᵀX + λI)⁻¹ g and b = Xv of one column of g.
template <class T>
void adjoint_column(const System& s, const float* g, int64_t m, int64_t c, Vectors<T>& at, float* v, float* b) {
  if (s.dual()) {
    read_column(g, s.d, m, c, at.features);
    times(s.X, s.n, s.d, at.features, at.right);
    solve_system(s, at);
    write_column(at.found, s.n, m, c, b);
    times_transposed(s.X, s.n, s.d, at.found, at.features);
    const T scale = static_cast<T>(1.0 / s.lam);
    for (int64_t i = 0; i < s.d; ++i) at.features[i] = (static_cast<T>(g[i * m + c]) - at.features[i]) * scale;
    write_column(at.features, s.d, m, c, v);
    return;
  }
  read_column(g, s.d, m, c, at.right);
  solve_system(s, at);
  write_column(at.found, s.d, m, c, v);
  times(s.X, s.n, s.d, at.found, at.samples);
  write_column(at.samples, s.n, m, c, b);
}

// grad_X = r vᵀ − b wᵀ for one right-hand side, whose v and w are rows.
void outer(const float* r, const float* v, const float* b, const float* w, int64_t n, int64_t d, float* out) {
#pragma omp parallel for schedule(static) if (n * d >= 1 << 16)
  for (int64_t i = 0; i < n; ++i) {
    float* row = out + i * d;
    const float along_v = r[i], along_w = b[i];
    for (int64_t j = 0; j < d; ++j) row[j] = along_v * v[j] - along_w * w[j];
  }
}

// The same for m of them.
void outer_many(const float* r, const float* v, const float* b, const float* w, int64_t n, int64_t d, int64_t m,
                float* out) {
#pragma omp parallel for schedule(static) if (n * d >= 1 << 16)
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < d; ++j) {
      float total = 0;
      for (int64_t c = 0; c < m; ++c) total += r[i * m + c] * v[j * m + c] - b[i * m + c] * w[j * m + c];
      out[i * d + j] = total;
    }
  }
}

// Memory of one system: the factorisation, a factor nobody asked for, the vectors.
struct SolveScratch {
  SolveScratch(const RidgeSolveArgs& a, Carver& carver)
      : gram(a.n < a.d ? a.n : a.d, a.n < a.d ? a.d : a.n, carver),
        factor(carver.take<float>(a.factor == nullptr ? (a.n < a.d ? a.n * a.n : a.d * a.d) : 0)),
        exact(a.n, a.d, carver),
        plain(a.n, a.d, carver) {}
  GramScratch gram;
  float* factor;
  Vectors<double> exact;
  Vectors<float> plain;
};

struct AdjointScratch {
  AdjointScratch(const RidgeAdjointArgs& a, Carver& carver) : exact(a.n, a.d, carver), plain(a.n, a.d, carver) {}
  Vectors<double> exact;
  Vectors<float> plain;
};

RidgeStatus solve_one(const RidgeSolveArgs& a, int64_t e, SolveScratch& scratch) {
  const int64_t k = a.n < a.d ? a.n : a.d;
  const float* X = a.X + e * a.n * a.d;
  const float* y = a.y + e * a.n * a.m;
  float* w = a.w + e * a.d * a.m;
  float* residual = a.residual == nullptr ? nullptr : a.residual + e * a.n * a.m;
  float* factor = a.factor == nullptr ? scratch.factor : a.factor + e * k * k;
  const GramInput rows{X, a.n, a.d, a.d, 1}, columns{X, a.d, a.n, 1, a.d};
  if (!gram_cholesky(a.d > a.n ? rows : columns, a.lam[e], scratch.gram, factor)) return kRidgeNotPositive;
  const System system{X, a.n, a.d, a.lam[e], factor};
  bool finite = true;
  for (int64_t c = 0; c < a.m; ++c) {
    finite &= a.refine ? solve_column(system, y, a.m, c, scratch.exact, w, residual)
                       : solve_column(system, y, a.m, c, scratch.plain, w, residual);
  }
  return finite ? kRidgeSolved : kRidgeNotFinite;
}

void adjoint_one(const RidgeAdjointArgs& a, int64_t e, AdjointScratch& scratch) {
  const int64_t k = a.n < a.d ? a.n : a.d;
  const System system{a.X + e * a.n * a.d, a.n, a.d, a.lam[e], a.factor + e * k * k};
  const float* g = a.grad + e * a.d * a.m;
  float* v = a.v + e * a.d * a.m;
  float* b = a.b + e * a.n * a.m;
  for (int64_t c = 0; c < a.m; ++c) {
    a.refine ? adjoint_column(system, g, a.m, c, scratch.exact, v, b)
             : adjoint_column(system, g, a.m, c, scratch.plain, v, b);
  }
  if (a.grad_X == nullptr) return;
  const float* r = a.residual + e * a.n * a.m;
  const float* w = a.w + e * a.d * a.m;
  float* out = a.grad_X + e * a.n * a.d;
  a.m == 1 ? outer(r, v, b, w, a.n, a.d, out) : outer_many(r, v, b, w, a.n, a.d, a.m, out);
}

// Systems of a batch go to the threads; a single system is shared by them.
template <class Scratch, class Args, class Run>
void for_batch(const Args& args, Run run) {
  const int workers = args.batch >= max_threads() ? max_threads() : 1;
  PerThread<Scratch> memory(workers, args);
#pragma omp parallel for schedule(dynamic) num_threads(workers) if (workers > 1)
  for (int64_t e = 0; e < args.batch; ++e) {
    Scratch scratch = memory.of(workers > 1 ? thread_index() : 0, args);
    run(e, scratch);
  }
}

}  // namespace

void ridge_solve(const RidgeSolveArgs& args) {
  for_batch<SolveScratch>(args,
                          [&](int64_t e, SolveScratch& scratch) { args.status[e] = solve_one(args, e, scratch); });
}

void ridge_adjoint(const RidgeAdjointArgs& args) {
  for_batch<AdjointScratch>(args, [&](int64_t e, AdjointScratch& scratch) { adjoint_one(args, e, scratch); });
}

}  // namespace FT_ISA
}  // namespace ft
