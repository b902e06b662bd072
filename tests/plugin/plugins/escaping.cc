// A plugin that breaks the first rule of the boundary: an exception leaves its entry.
#include <quern/abi.h>

#include <stdexcept>

extern "C" QUERN_EXPORT quern_status* quern_plugin_entry_v1(const quern_host*, quern_plugin*) {
  throw std::runtime_error("it should have been caught");
}
