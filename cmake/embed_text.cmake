# Run by quern_embed: writes OUT, a C++ source whose FUNCTION() gives the text of IN.
file(READ "${IN}" text)
file(WRITE "${OUT}" "#include <string_view>\nnamespace quern {\nstd::string_view ${FUNCTION}() {\n"
  "  static constexpr std::string_view text = R\"quern_text(${text})quern_text\";\n  return text;\n}\n}\n")
