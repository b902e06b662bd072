// What of the rules a case is drawn for: an entry of `ops`, one of its configs, and a way through one of the fuse patterns.
// From the rules alone; the kit knows no target by name.
#pragma once
#include <string>
#include <vector>

#include "core/rules/rules.hpp"

namespace quern::conform {

struct Step { const FuseStep* rule = nullptr; std::string op; };  // a follower, and which of its operators

struct Variant {
  const OpRule* rule = nullptr;
  const OpConfig* config = nullptr;
  const FusePattern* pattern = nullptr;  // none: the operator alone
  std::vector<Step> steps;               // after the first
  std::string name() const;              // "op3.Conv/conv8/conv_add_relu.Add.Relu"; "-" for no pattern
};

// Every entry with every config, alone and through every pattern: each way to take a pattern's steps one at a time, and all at once.
std::vector<Variant> variants_of(const Rules& rules);

// Types per role ("input", "weight", ..., "output") for the `index`-th unit of a variant: all combinations come in turn, far ones first.
// "in*" stands for all variadic inputs. Roles of steps are named after their `other`.
struct TypeChoice { std::vector<std::pair<std::string, std::string>> by_role; const std::string* find(const std::string& role) const; };
TypeChoice types_for(const Variant& variant, int64_t index);
int64_t type_combinations(const Variant& variant);

// An attribute or rank just outside of what an entry allows.
struct Beyond {
  std::string attribute;  // "" with rank
  std::string role;       // of rank
  Attribute value;        // of every element, for lists
  int64_t rank = 0;
  std::string text() const;
};
std::vector<Beyond> beyond_limits(const OpRule& rule);

}  // namespace quern::conform
