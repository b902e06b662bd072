# What every part of the build shares: flags, dependencies, and the shape of a room.

include(${CMAKE_CURRENT_LIST_DIR}/QuernEmbed.cmake)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# -O2 without -DNDEBUG: assertions are cheap here and part of the promise.
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
set(CMAKE_C_FLAGS_RELEASE "-O2")

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/archive)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(QUERN_PLUGIN_OUTPUT ${CMAKE_BINARY_DIR}/lib/quern/plugins)

find_program(QUERN_CCACHE ccache)
if(QUERN_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${QUERN_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${QUERN_CCACHE})
endif()

# Contraction of a*b+c into one rounding is off everywhere: where a contract wants an fma, the code says fma.
add_compile_options(-ffp-contract=off -Wall -Wextra)

macro(quern_find_dependencies)
  if(QUERN_WERROR)
    add_compile_options(-Werror)
  endif()
  if(QUERN_SANITIZE)
    add_compile_options(-fsanitize=${QUERN_SANITIZE} -fno-omit-frame-pointer -g)
    add_link_options(-fsanitize=${QUERN_SANITIZE})
  endif()
  find_package(Threads REQUIRED)
  find_package(ZLIB REQUIRED)
  find_package(OpenSSL REQUIRED COMPONENTS Crypto)
  find_package(Boost 1.81 CONFIG REQUIRED COMPONENTS filesystem json)
  find_package(fmt REQUIRED)
  find_package(spdlog REQUIRED)
  find_package(yaml-cpp REQUIRED)
  if(NOT TARGET yaml-cpp::yaml-cpp)
    add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
  endif()
  find_package(Protobuf REQUIRED)   # before ONNX: its config names protobuf::libprotobuf but does not find it
  find_package(ONNX CONFIG REQUIRED)
  find_package(dnnl CONFIG REQUIRED)
  find_package(OpenMP REQUIRED COMPONENTS CXX)  # the engine sets oneDNN's threads
  find_package(CLI11 CONFIG REQUIRED)
  find_package(Eigen3 CONFIG REQUIRED)
  if(QUERN_TESTS)
    find_package(GTest CONFIG REQUIRED)
  endif()
endmacro()

# quern_room(NAME [DEPS quern::x ...] [PRIVATE libs ...])
#
# A room of the host: core/NAME/*.cpp as quern::NAME. DEPS may only name rooms above it in core/CMakeLists.txt;
# since a target must exist before it is named, an arrow in the wrong direction does not configure.
function(quern_room name)
  cmake_parse_arguments(ARG "" "" "DEPS;PRIVATE" ${ARGN})
  foreach(dep ${ARG_DEPS})
    if(dep MATCHES "^quern::" AND NOT TARGET ${dep})
      message(FATAL_ERROR "room ${name} depends on ${dep}, which is not above it in core/CMakeLists.txt")
    endif()
  endforeach()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  if(NOT sources)
    add_library(quern_${name} INTERFACE)
    set(scope INTERFACE)
  else()
    add_library(quern_${name} STATIC ${sources})
    set(scope PUBLIC)
    target_link_libraries(quern_${name} PRIVATE ${ARG_PRIVATE})
  endif()
  add_library(quern::${name} ALIAS quern_${name})
  target_include_directories(quern_${name} ${scope} ${PROJECT_SOURCE_DIR})
  target_link_libraries(quern_${name} ${scope} ${ARG_DEPS})
endfunction()

# quern_room_tests(NAME [LIBS ...]): tests/NAME/*_test.cpp as one GoogleTest executable, one ctest entry a test case.
function(quern_room_tests name)
  cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${name}/*.cpp)
  if(NOT sources)
    return()
  endif()
  string(REPLACE "/" "_" target ${name})
  add_executable(quern_${target}_tests ${sources})
  target_link_libraries(quern_${target}_tests PRIVATE ${ARG_LIBS} GTest::gtest_main GTest::gmock)
  target_include_directories(quern_${target}_tests PRIVATE ${PROJECT_SOURCE_DIR})
  # Where things are, for tests; through the environment, so that no path of a machine is compiled in.
  gtest_discover_tests(quern_${target}_tests DISCOVERY_TIMEOUT 120 DISCOVERY_MODE PRE_TEST
    TEST_PREFIX "${name}." PROPERTIES TIMEOUT 300
    ENVIRONMENT "QUERN_SOURCE_DIR=${PROJECT_SOURCE_DIR};QUERN_BUILD_DIR=${CMAKE_BINARY_DIR};OMP_NUM_THREADS=1;OMP_WAIT_POLICY=passive")
endfunction()
