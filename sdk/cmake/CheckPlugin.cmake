# cmake -DNM=nm -DFILE=plugin.so -P CheckPlugin.cmake
#
# A plugin exports one symbol. Everything else it exported could collide with the host's or another plugin's.
cmake_minimum_required(VERSION 3.19)
execute_process(COMMAND ${NM} -D --defined-only ${FILE} OUTPUT_VARIABLE text RESULT_VARIABLE failed ERROR_VARIABLE problem)
if(failed)
  message(FATAL_ERROR "${FILE}: ${NM} failed: ${problem}")
endif()
string(REGEX MATCHALL "[^ \n]+\n" symbols "${text}")
list(TRANSFORM symbols STRIP)
list(TRANSFORM symbols REPLACE "@.*$" "")
if(NOT symbols STREQUAL "quern_plugin_entry_v1")
  file(REMOVE ${FILE})
  if(NOT symbols)
    message(FATAL_ERROR "${FILE} exports nothing; a plugin defines quern_plugin_entry_v1 with C linkage (QUERN_EXPORT)")
  endif()
  list(JOIN symbols ", " symbols)
  message(FATAL_ERROR "${FILE} must export quern_plugin_entry_v1 and nothing else; it exports ${symbols}")
endif()
# The host refuses a plugin that others could change; a loose umask would make every build such a one.
get_filename_component(folder ${FILE} DIRECTORY)
file(CHMOD ${FILE} ${folder} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
