// The table of one instruction set: this file is compiled once for each.
#include "cpu/api.h"

namespace ft {
namespace FT_ISA {

#define FT_DECLARE(name, Args) void name(const Args&);
FT_CPU_ENTRIES(FT_DECLARE)
#undef FT_DECLARE

const CpuTable& table() {
#define FT_ENTRY(name, Args) name,
  static const CpuTable entries = {FT_CPU_ENTRIES(FT_ENTRY)};
#undef FT_ENTRY
  return entries;
}

}  // namespace FT_ISA
}  // namespace ft
