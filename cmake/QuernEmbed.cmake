# quern_embed(TARGET FUNCTION FILE): the text of FILE, given by `std::string_view quern::FUNCTION()` in TARGET.
# Made again when FILE changes.
function(quern_embed target function file)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/embedded_${function}.cpp)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DIN=${file} -DOUT=${out} -DFUNCTION=${function} -P ${PROJECT_SOURCE_DIR}/cmake/embed_text.cmake
    DEPENDS ${file} ${PROJECT_SOURCE_DIR}/cmake/embed_text.cmake)
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")  # a room that has no sources yet
    return()
  endif()
  target_sources(${target} PRIVATE ${out})
endfunction()
