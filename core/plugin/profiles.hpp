// What every kind of target does the same: rules are read once per profile, and the default profile is chosen once.
#pragma once
#include <mutex>

#include "core/plugin/plugin.hpp"

namespace quern {

class ProfiledTarget : public Target {
 public:
  explicit ProfiledTarget(std::string id) : id_(std::move(id)) {}
  std::string id() const override { return id_; }
  Rules rules(const std::string& profile) const override { return *cached_rules(resolved(profile)); }

 protected:
  // Plugins get the profile's name, never "": the first of the rules' defaults that can run here, else the first.
  std::string resolved(const std::string& profile) const {
    if (!profile.empty()) return profile;
    std::call_once(chosen_, [&] {
      const auto first = cached_rules("");
      default_ = first->profile;
      if (first->default_profiles.size() < 2) return;
      for (const std::string& name : first->default_profiles)
        if (available(name, nullptr)) {
          default_ = name;
          return;
        }
    });
    return default_;
  }

 private:
  std::shared_ptr<const Rules> cached_rules(const std::string& profile) const {
    std::lock_guard lock(mutex_);
    auto& entry = rules_[profile];
    if (!entry) entry = std::make_shared<const Rules>(parse_rules(rules_text(), "plugin " + id_, profile));
    return entry;
  }

  std::string id_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<const Rules>> rules_;
  mutable std::once_flag chosen_;
  mutable std::string default_;
};

}  // namespace quern
