#include "plugins/cpu/rows.hpp"

#include "plugins/cpu/isa.hpp"

namespace quern_cpu {

const Rows& rows() {
  switch (current_isa()) {
    case Isa::vnni:
    case Isa::avx512: return avx512_rows();
    case Isa::avx2: return avx2_rows();
    case Isa::sse41: return sse41_rows();
    default: return scalar_rows();
  }
}

}  // namespace quern_cpu
