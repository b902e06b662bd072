extern "C" int quern_plugin_entry_v1_mistyped() { return 1; }
