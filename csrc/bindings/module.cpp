// The extension module: picks the instruction set, then binds every op.
#include <cstdlib>

#include "bindings/common.h"

namespace ft {

#define FT_ISA_ROW(isa)    \
  namespace isa {          \
  const CpuTable& table(); \
  }
FT_ISA_LIST
#undef FT_ISA_ROW

namespace {

struct Isa {
  const char* name;
  const CpuTable* table;
  bool supported;
};

bool cpu_supports(const std::string& isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == "avx2") {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  }
  if (isa == "avx512") {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  }
#endif
  return isa == "baseline";
}

// From the least to the most capable, as the build lists them.
const std::vector<Isa>& isas() {
  static const std::vector<Isa> all = {
#define FT_ISA_ROW(isa) Isa{#isa, &isa::table(), cpu_supports(#isa)},
      FT_ISA_LIST
#undef FT_ISA_ROW
  };
  return all;
}

const Isa& choose_isa() {
  const char* forced = std::getenv("FASTTRACK_ISA");
  const Isa* best = nullptr;
  std::string known;
  for (const Isa& isa : isas()) {
    known += std::string(known.empty() ? "" : ", ") + isa.name;
    if (forced != nullptr && isa.name == std::string(forced)) {
      if (!isa.supported) throw std::runtime_error("FASTTRACK_ISA=" + std::string(forced) + ": this CPU lacks it");
      return isa;
    }
    if (isa.supported) best = &isa;
  }
  if (forced != nullptr) {
    throw std::runtime_error("FASTTRACK_ISA must be one of " + known + ", got '" + forced + "'");
  }
  return *best;
}

const Isa& isa() {
  static const Isa& chosen = choose_isa();
  return chosen;
}

py::list isa_list() {
  py::list out;
  for (const Isa& isa : isas()) out.append(py::make_tuple(isa.name, isa.supported));
  return out;
}

}  // namespace

const CpuTable& kernels() { return *isa().table; }

}  // namespace ft

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of fasttrack: plain addresses and sizes in, nothing allocated.";
  ft::isa();  // a wrong FASTTRACK_ISA fails the import, with its reason
  m.def("isa", [] { return std::string(ft::isa().name); }, "instruction set in use");
  m.def("isas", &ft::isa_list, "(name, supported by this CPU) of every instruction set in this build");
#define FT_BIND(op) ft::bind_##op(m);
  FT_BINDINGS(FT_BIND)
#undef FT_BIND
}
