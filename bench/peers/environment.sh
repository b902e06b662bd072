# To be sourced in the project's folder: makes the peers' Python environment where it is missing or aged, and sets $venv.
# A worktree uses that of the main one.
main=$(git worktree list --porcelain 2>/dev/null | sed -n '1s/^worktree //p')
venv=${QUERN_PEERS_VENV:-${main:-.}/.venv-peers}
stamp=$venv/.installed-$(sha256sum bench/peers/requirements.txt | cut -c1-16)
if [ ! -e "$stamp" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r bench/peers/requirements.txt
  touch "$stamp"
fi
