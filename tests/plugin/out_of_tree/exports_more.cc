#include <quern/abi.h>
extern "C" QUERN_EXPORT int another() { return 1; }
extern "C" QUERN_EXPORT quern_status* quern_plugin_entry_v1(const quern_host*, quern_plugin*) { return nullptr; }
