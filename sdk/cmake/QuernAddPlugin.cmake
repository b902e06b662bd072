# quern_add_plugin(NAME SOURCES a.cpp ... MANIFEST manifest.json [RULES rules.json] [LIBS lib ...] [OUTPUT_DIRECTORY dir] [NO_INSTALL])
#
# A plugin as Quern wants it: one shared object, without prefix, that
#   - exports exactly one symbol, quern_plugin_entry_v1 (hidden visibility, a version script, no symbols of static
#     libraries; checked with nm after linking),
#   - has no unresolved symbols (-z defs) and no unique symbols (-fno-gnu-unique), which would be shared between plugins,
#   - carries its manifest in the section .quern, so that it can be listed without being loaded. Survives `strip -s`.
#
# With RULES, the sources may `#include "quern_rules.h"`: the text of a target's rules as `quern_rules` (quern_rules_length bytes).
#
# The file is written to OUTPUT_DIRECTORY, else to ${QUERN_PLUGIN_OUTPUT}, else to the current binary folder, and
# installed to lib/quern/plugins. Works in Quern's own tree and, through find_package(QuernSDK), out of it:
#
#   find_package(QuernSDK 0.1 REQUIRED)
#   quern_add_plugin(my_npu SOURCES my_npu.cpp MANIFEST manifest.json)
include_guard(GLOBAL)

function(quern_add_plugin name)
  cmake_parse_arguments(ARG "NO_INSTALL" "MANIFEST;RULES;OUTPUT_DIRECTORY" "SOURCES;LIBS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "quern_add_plugin(${name}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT ARG_SOURCES OR NOT ARG_MANIFEST)
    message(FATAL_ERROR "quern_add_plugin(${name}): SOURCES and MANIFEST are needed")
  endif()
  get_filename_component(manifest ${ARG_MANIFEST} ABSOLUTE)
  if(NOT EXISTS ${manifest})
    message(FATAL_ERROR "quern_add_plugin(${name}): no manifest at ${manifest}")
  endif()

  # The manifest as an array in its own section, in a language the project has.
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  set(extension cpp)
  if("C" IN_LIST languages)
    set(extension c)
  endif()
  set(embedded ${CMAKE_CURRENT_BINARY_DIR}/${name}_manifest.${extension})
  add_custom_command(OUTPUT ${embedded}
    COMMAND ${CMAKE_COMMAND} -DMANIFEST=${manifest} -DOUTPUT=${embedded} -P ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/EmbedManifest.cmake
    DEPENDS ${manifest} ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/EmbedManifest.cmake
    COMMENT "Embedding the manifest of ${name}" VERBATIM)

  set(made ${embedded})
  if(ARG_RULES)
    get_filename_component(rules ${ARG_RULES} ABSOLUTE)
    if(NOT EXISTS ${rules})
      message(FATAL_ERROR "quern_add_plugin(${name}): no rules at ${rules}")
    endif()
    set(folder ${CMAKE_CURRENT_BINARY_DIR}/${name}_rules)
    add_custom_command(OUTPUT ${folder}/quern_rules.h
      COMMAND ${CMAKE_COMMAND} -DRULES=${rules} -DOUTPUT=${folder}/quern_rules.h -P ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/EmbedRules.cmake
      DEPENDS ${rules} ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/EmbedRules.cmake
      COMMENT "Embedding the rules of ${name}" VERBATIM)
    list(APPEND made ${folder}/quern_rules.h)
  endif()
  add_library(${name} MODULE ${ARG_SOURCES} ${made})
  if(ARG_RULES)
    target_include_directories(${name} PRIVATE ${folder})
  endif()
  target_link_libraries(${name} PRIVATE QuernSDK::sdk ${ARG_LIBS})
  if("CXX" IN_LIST languages)
    target_compile_features(${name} PRIVATE cxx_std_17)
  endif()
  set_target_properties(${name} PROPERTIES PREFIX "" SUFFIX ".so"
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
  # -ffp-contract=off: a*b+c must not become one rounding behind the contract's back.
  target_compile_options(${name} PRIVATE -ffp-contract=off $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
  set(exports ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/quern_plugin.map)
  target_link_options(${name} PRIVATE LINKER:--exclude-libs,ALL LINKER:--version-script=${exports})
  if(NOT QUERN_SANITIZE)  # the sanitizers' own symbols come from the executable
    target_link_options(${name} PRIVATE LINKER:-z,defs)
  endif()
  set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${exports})

  set(output ${CMAKE_CURRENT_BINARY_DIR})
  if(ARG_OUTPUT_DIRECTORY)
    set(output ${ARG_OUTPUT_DIRECTORY})
  elseif(QUERN_PLUGIN_OUTPUT)
    set(output ${QUERN_PLUGIN_OUTPUT})
  endif()
  set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${output})
  add_custom_command(TARGET ${name} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM} -DFILE=$<TARGET_FILE:${name}> -P ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/CheckPlugin.cmake
    VERBATIM)
  if(NOT ARG_NO_INSTALL)
    install(TARGETS ${name} LIBRARY DESTINATION lib/quern/plugins
      PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  endif()
endfunction()
