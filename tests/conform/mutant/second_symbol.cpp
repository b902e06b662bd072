// What a plugin must not have.
extern "C" __attribute__((visibility("default"))) int mutant_second_symbol() { return 2; }
