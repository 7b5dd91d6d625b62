// Lengths of the mixed-radix FFT in fft.h: how each is factorised, its twiddles, where its frequencies lie.
#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "cpu/fft.h"

namespace ft {
namespace FT_ISA {
namespace {

// Cycles of one butterfly, measured on AVX2; they only rank factorisations.
double butterfly_cost(int radix) {
  switch (radix) {
    case 2:
      return 5;
    case 3:
      return 8;
    case 4:
      return 10;
    case 5:
      return 17;
    case 6:
      return 18;
    default:
      return 28;
  }
}

double factorise(std::int64_t n, int largest, std::vector<int>& best) {
  if (n == 1) {
    best.clear();
    return 0;
  }
  double cost = 1e30;
  for (const int r : {2, 3, 4, 5, 6, 8}) {
    if (r > largest || n % r != 0) continue;
    std::vector<int> rest;
    const double total = factorise(n / r, r, rest) * r + butterfly_cost(r) * static_cast<double>(n / r);
    if (total < cost) {
      cost = total;
      best = rest;
      best.insert(best.begin(), r);
    }
  }
  return cost;
}

struct Owned {
  FftPlan plan;
  std::unique_ptr<float, void (*)(void*)> table{nullptr, std::free};
};

std::unique_ptr<Owned> make_plan(std::int64_t n) {
  auto owned = std::make_unique<Owned>();
  FftPlan& plan = owned->plan;
  plan.n = n;
  factorise(n, 8, plan.radix);
  std::int64_t length = n;
  std::size_t elements = 0;
  for (const int r : plan.radix) {
    plan.block.push_back(length);
    elements += static_cast<std::size_t>(length / r * (r - 1));
    length /= r;
  }
  const std::size_t bytes = (elements * kComplex * sizeof(float) + 127) / 64 * 64;
  owned->table.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
  float* at = owned->table.get();
  for (std::size_t pass = 0; pass < plan.radix.size(); ++pass) {
    const int r = plan.radix[pass];
    plan.twiddle.push_back(at);
    for (std::int64_t j = 0; j < plan.block[pass] / r; ++j) {
      for (int q = 1; q < r; ++q, at += kComplex) {
        const double angle =
            -2.0 * 3.14159265358979323846 * static_cast<double>(j * q) / static_cast<double>(plan.block[pass]);
        for (int lane = 0; lane < FT_LANES; ++lane) {
          at[lane] = static_cast<float>(std::cos(angle));
          at[FT_LANES + lane] = static_cast<float>(std::sin(angle));
        }
      }
    }
  }
  plan.position.resize(static_cast<std::size_t>(n));
  for (std::int64_t k = 0; k < n; ++k) {
    std::int64_t rest = k, place = 0;
    for (std::size_t pass = 0; pass < plan.radix.size(); ++pass) {
      const int r = plan.radix[pass];
      place += rest % r * (plan.block[pass] / r);
      rest /= r;
    }
    plan.position[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(place);
  }
  return owned;
}

}  // namespace

double fft_cost(std::int64_t n) {
  std::vector<int> radices;
  return factorise(n, 8, radices);
}

const FftPlan& fft_plan(std::int64_t n) {
  static std::mutex guard;
  static auto& plans = *new std::map<std::int64_t, std::unique_ptr<Owned>>;  // outlives every thread
  const std::lock_guard<std::mutex> lock(guard);
  auto& slot = plans[n];
  if (!slot) slot = make_plan(n);
  return slot->plan;
}

}  // namespace FT_ISA
}  // namespace ft
