// QUERN_WIDE before a function: compiled once for each of several vector widths, chosen when it is loaded. For loops of plain
// arithmetic in a written order, which give the same bits in each.
//
//   QUERN_WIDE int32_t sum(const int16_t* a, int64_t n) { ... }
//
// Nothing under ThreadSanitizer: the choice is made before its library can be called.
#pragma once
#ifdef __SANITIZE_THREAD__
#define QUERN_WIDE
#else
#define QUERN_WIDE __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#endif
