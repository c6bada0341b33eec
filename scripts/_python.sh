# To be sourced by bash. Defines `base_python`, which prints the interpreter that environments are made
# from: what FLAXMODELS_PYTHON names, otherwise the first fit one on PATH.

_say() { printf 'venv: %s\n' "$*" >&2; }

base_python() {
  local names=(python3 python3.13 python3.12 python3.11 python) name unfit=
  if [ -n "${FLAXMODELS_PYTHON:-}" ]; then names=("$FLAXMODELS_PYTHON"); fi
  for name in "${names[@]}"; do
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if "$name" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      command -v "$name"
      return
    fi
    unfit=$name
  done
  if [ -n "$unfit" ]; then
    _say "$unfit cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv"
  else
    _say "no Python >= 3.11 among: ${names[*]}; set FLAXMODELS_PYTHON to one"
  fi
  return 1
}
