# shellcheck shell=bash
# Installing Debian packages, for `ops/up` and `ops/test`. To be sourced.

# Installs the packages named, or says what to do by hand. Call it only when something is missing: a machine that has
# everything is not to be touched, and may have no network.
install_packages() {
    local as_root=()
    if ! command -v apt-get >/dev/null; then
        say "this system has no apt-get; install by hand what Debian calls: $*"
        say "  Fedora:  sudo dnf install postgresql-server nginx curl openssl gcc python3"
        say "  macOS:   brew install postgresql@16 nginx curl openssl python3"
        exit 1
    fi
    if [[ $(id -u) -ne 0 ]]; then
        if ! command -v sudo >/dev/null; then
            say "neither root nor sudo; ask whoever is root to run:  apt-get install $*"
            exit 1
        fi
        as_root=(sudo)
        # Without a terminal nobody can type a password: fail at once, rather than wait for it.
        if [[ ! -t 0 ]]; then as_root+=(--non-interactive); fi
    fi
    say "installing: $*"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update --quiet --quiet
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends "$@"
}

# The newest Postgres of at least version 15, as the service finds it: PORTCULLIS_PG_BIN, PATH, Debian's folders.
has_postgres() {
    local folder version
    for folder in "${PORTCULLIS_PG_BIN:-}" "$(dirname "$(command -v initdb || echo /nowhere/initdb)")" /usr/lib/postgresql/*/bin; do
        [[ -n $folder && -x $folder/initdb && -x $folder/postgres ]] || continue
        version=$("$folder/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
        if [[ $version -ge 15 ]]; then return 0; fi
    done
    return 1
}

has_compiler() {
    command -v cc >/dev/null && [[ -e /usr/include/stdio.h || $(uname) != Linux ]]
}

say() {
    echo "${0##*/}: $*" >&2
}
