// The C++17 side of a plugin: everything of the SDK in one include. Header-only, links to nothing.
//
//   #include <quern/plugin.hpp>
//   struct MyNpu { ... };                 // see quern/target.hpp
//   QUERN_SDK_TARGET(MyNpu)
//
//   struct Percentile { ... };            // see quern/algorithm.hpp
//   QUERN_SDK_ALGORITHMS(quern_sdk::Estimators<Percentile>, quern_sdk::Stages<>)
//
// Build it with quern_add_plugin() of the QuernSDK package, which hides every symbol but the entry.
#pragma once
#include "quern/algorithm.hpp"
#include "quern/json.hpp"
#include "quern/target.hpp"
#include "quern/views.hpp"
