# To be sourced by bash. Makes or repairs .venv from pyproject.toml and constraints.txt, then
# leaves `root` (the repo), `venv` and `python` (the environment and its interpreter) set.
# _python.sh says from which interpreter. FLAXMODELS_VENV names another folder of the repo for it, as .ci/run does for a second interpreter.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/${FLAXMODELS_VENV:-.venv}
python=$venv/bin/python

source "$root/scripts/_python.sh"

# What the environment was made from, or nothing where its interpreter is missing or broken.
_fingerprint() {
  local made_by
  made_by=$("$python" -c 'import sys; print(sys.version)' 2>/dev/null) || return 0
  printf '%s\n%s\n' "$root" "$made_by"
  cat "$root/pyproject.toml" "$root/constraints.txt" | cksum
}

_is_current() {
  [ -f "$venv/stamp" ] && [ "$(_fingerprint)" = "$(cat "$venv/stamp")" ]
}

_is_from() { # whether the environment is this checkout's and runs the given interpreter's version
  local version
  version=$("$1" -c 'import sys; print(sys.version)')
  [ -f "$venv/stamp" ] && [ "$(head -n 1 "$venv/stamp")" = "$root" ] &&
    [ "$("$python" -c 'import sys; print(sys.version)' 2>/dev/null)" = "$version" ]
}

_install() { "$@" setuptools && "$@" --no-build-isolation -e "$root[dev,tokenizers,h5,serving]"; }

_make_venv() {
  local base pip uv
  base=$(base_python) || return 1
  if _is_from "$base"; then
    _say "pyproject.toml or constraints.txt changed; updating ${venv##*/}"
    rm -f "$venv/stamp"
  else
    _say "making ${venv##*/} with $("$base" --version) (about a minute)"
    "$base" -m venv --clear "$venv" || return 1
  fi
  # uv takes a fifth of pip's time. It knows nothing of pip's settings, such as an index of one's own:
  # where it fails, pip installs. Neither compiles: Python does, what is imported.
  pip=("$python" -m pip --disable-pip-version-check install -qq --no-compile)
  pip+=(-c "$root/constraints.txt")
  uv=("$venv/bin/uv" pip install -q --python "$python" -c "$root/constraints.txt")
  "${pip[@]}" uv || return 1
  _install "${uv[@]}" 2>/dev/null || _install "${pip[@]}" || return 1
  _fingerprint >"$venv/stamp.new"
  mv "$venv/stamp.new" "$venv/stamp" # last: without it the next run starts again
  _say "ready"
}

if ! _is_current || { [ -n "${FLAXMODELS_PYTHON:-}" ] && ! _is_from "$FLAXMODELS_PYTHON"; }; then
  mkdir -p "$venv"
  exec 9<"$venv"
  if command -v flock >/dev/null; then flock 9; fi # one installer at a time
  if ! _is_current || { [ -n "${FLAXMODELS_PYTHON:-}" ] && ! _is_from "$FLAXMODELS_PYTHON"; }; then
    _make_venv 9<&-
  fi
  exec 9<&-
fi

# Each process of the tests would compile JAX anew where the caller wants no bytecode beside sources:
# it lies in the environment.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$venv/bytecode
